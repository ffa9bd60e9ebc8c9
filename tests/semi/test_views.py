"""Boxes in which two slices change places, when slices without labels count, and how fast a teacher follows."""

import pytest
import torch
from torch import Generator

from jcl.augment.batches import augment_batch
from jcl.augment.labelled import LabelledRanges
from jcl.semi._schedule import rising_momentum, rising_weight
from jcl.semi._views import augment_alone, boxes_of_area, boxes_of_side
from support.techniques import blocks, slices


def corners(box: torch.Tensor) -> tuple[int, int, int, int]:
    rows, columns = (torch.nonzero(box.any(axis)).flatten().tolist() for axis in (1, 0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def test_boxes_of_two_thirds_lie_anywhere_within_the_slice():
    boxes = boxes_of_side(300, (12, 18), 2 / 3, generator=Generator().manual_seed(0))
    found = [corners(box) for box in boxes]
    for box, (top, bottom, left, right) in zip(boxes, found, strict=True):
        assert (bottom - top, right - left) == (8, 12)
        assert box.sum() == 8 * 12  # nothing else, and no hole
    assert {top for top, *_ in found} == set(range(5))
    assert {left for _, _, left, _ in found} == set(range(7))


def test_a_box_of_the_whole_side_and_a_box_of_nearly_none():
    assert boxes_of_side(3, (5, 7), 1.0, generator=Generator().manual_seed(0)).all()
    assert boxes_of_side(3, (5, 7), 0.01, generator=Generator().manual_seed(0)).sum().item() == 3


def test_boxes_of_cutmix_are_in_half_of_the_slices_and_small():
    boxes = boxes_of_area(1000, (40, 40), generator=Generator().manual_seed(0))
    shares = boxes.float().mean((1, 2))
    assert 400 < int((shares > 0).sum()) < 600
    assert float(shares.max()) <= 0.4
    assert float(shares[shares > 0].min()) > 0.01
    for box in boxes[shares > 0][:50]:
        top, bottom, left, right = corners(box)
        assert box.sum() == (bottom - top) * (right - left)


def test_boxes_of_blocks_have_three_sides():
    """Two thirds of each; or a share of the volume, in half of the blocks, as long through the plane as in it."""
    boxes = boxes_of_side(50, (6, 12, 18), 2 / 3, generator=Generator().manual_seed(0))
    assert torch.equal(boxes.sum((1, 2, 3)), torch.full((50,), 4 * 8 * 12))
    assert all(box.any((1, 2)).sum() == 4 and box.any((0, 2)).sum() == 8 for box in boxes)
    assert len({tuple(torch.nonzero(box)[0].tolist()) for box in boxes}) > 25
    mixed = boxes_of_area(1000, (20, 40, 40), generator=Generator().manual_seed(0))
    shares = mixed.float().mean((1, 2, 3))
    assert 400 < int((shares > 0).sum()) < 600
    assert 0.005 < float(shares[shares > 0].min()) < float(shares.max()) < 0.5
    for box in mixed[shares > 0][:50]:
        sides = [int(box.any(axes).sum()) for axes in ((1, 2), (0, 2), (0, 1))]
        assert box.sum() == sides[0] * sides[1] * sides[2]
        assert sides[0] / 20 == pytest.approx((sides[1] * sides[2] / 1600) ** 0.5, abs=0.15)


def test_the_weight_rises_behind_the_warm_up():
    weights = [rising_weight(n / 20, warmup=0.25, rampup=0.5) for n in range(21)]
    assert weights[:5] == [0.0] * 5
    assert weights[5:16] == sorted(weights[5:16])
    assert 0 < weights[5] < 0.01
    assert weights[15:] == [1.0] * 6
    assert rising_weight(0.0, warmup=0.0, rampup=0.0) == 1.0
    assert rising_weight(0.99, warmup=1.0, rampup=0.0) == 0.0


def test_the_momentum_rises_to_its_most():
    assert [rising_momentum(n, 0.9) for n in (1, 4, 50)] == [0.5, 0.8, 0.9]


@pytest.mark.parametrize("given", [slices, blocks])
def test_what_has_no_labels_is_changed_as_what_has(given):
    """The same draws give the same images."""
    batch = given()[0]
    ranges = LabelledRanges(elastic=0.05, intensity=1.0)
    alone = augment_alone(batch, ranges, generator=Generator().manual_seed(2))
    assert torch.equal(alone, augment_batch(batch, ranges, generator=Generator().manual_seed(2))[0])
    assert not torch.allclose(alone, batch.images, atol=0.1)
