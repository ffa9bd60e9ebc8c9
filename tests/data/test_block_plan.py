"""How a network of three dimensions is planned: by hand, and by nnU-Net's rule written out slowly."""

import itertools

import pytest

from jcl.data.block_plan import block_of, check_block, median_spacing, plan_strides, with_block
from jcl.errors import UsageError


@pytest.mark.parametrize(
    ("spacing", "block", "strides"),
    [
        ((1.0, 1.0, 1.0), (32, 32, 32), [[2, 2, 2]] * 3),
        ((1.0, 1.0, 1.0), (128, 128, 128), [[2, 2, 2]] * 4),
        ((5.0, 1.0, 1.0), (16, 64, 64), [[1, 2, 2], [1, 2, 2], [2, 2, 2], [2, 2, 2]]),
        ((10.0, 1.25, 1.25), (8, 64, 64), [[1, 2, 2], [1, 2, 2], [1, 2, 2], [2, 2, 2]]),
        ((1.0, 1.0, 1.0), (8, 64, 32), [[2, 2, 2], [1, 2, 2], [1, 2, 2], [1, 2, 1]]),
        ((1.0, 2.5, 2.5), (64, 64, 64), [[2, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]]),
        ((9.0, 1.0, 1.0), (1, 16, 16), [[1, 2, 2], [1, 2, 2]]),
    ],
)
def test_by_hand(spacing, block, strides):
    assert plan_strides(spacing, block) == strides


def test_what_a_plan_promises():
    """No side is halved below 4, and none while its voxels are twice as long as those of a side that can be halved."""
    for spacing in itertools.product((0.5, 1.0, 3.0, 8.0), repeat=3):
        for block in itertools.product((4, 9, 16, 40), repeat=3):
            if max(block) < 8:
                continue
            sides, lengths = list(block), list(spacing)
            for level in plan_strides(spacing, block):
                assert max(level) == 2
                for axis, by in enumerate(level):
                    if by == 2:
                        assert sides[axis] >= 8
                        others = [lengths[other] for other in range(3) if sides[other] >= 8]
                        assert lengths[axis] < 2 * min(others)
                sides = [side // by for side, by in zip(sides, level, strict=True)]
                lengths = [length * by for length, by in zip(lengths, level, strict=True)]


@pytest.mark.parametrize("block", [(0, 8, 8), (-4, 8, 8), (4, 7, 7), (1024, 1024, 1024)])
def test_blocks_that_cannot_be_meant(block):
    with pytest.raises(UsageError, match=f"block is {block[0]} {block[1]} {block[2]}"):
        check_block(block)


def test_a_block_in_a_preparation():
    assert block_of({}) is None
    assert with_block({"a": 1}, None) == {"a": 1}
    assert block_of(with_block({"a": 1}, (4, 8, 8))) == (4, 8, 8)


def test_spacing_is_the_median_of_each_side():
    assert median_spacing([(3.0, 1.0, 1.0), (1.0, 2.0, 1.5), (6.0, 1.5, 0.5)]) == (3.0, 1.5, 1.0)
