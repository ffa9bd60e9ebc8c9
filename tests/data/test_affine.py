"""How far two grids lie apart, against the corners computed one by one."""

import itertools

import numpy as np
import pytest

from jcl.data.affine import SQUARE, apart, skewed


def matrix(spacing: tuple[float, float, float], origin: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return affine


def test_the_distance_is_that_of_the_farthest_corner() -> None:
    random = np.random.default_rng(0)
    one, other = (np.vstack([random.normal(size=(3, 4)), [0, 0, 0, 1]]) for _ in range(2))
    size = (5, 7, 9)
    mm, voxels = 0.0, 0.0
    for corner in itertools.product(*((0, n - 1) for n in size)):
        index = np.array([*corner, 1.0])
        mm = max(mm, float(np.abs((one - other) @ index).max()))
        voxels = max(voxels, float(np.abs(np.linalg.inv(other) @ one @ index - index).max()))
    assert apart(one, other, size) == pytest.approx((voxels, mm))


def test_voxels_are_counted_along_the_axis_in_which_they_move() -> None:
    """A tenth of a thick slice is not half of a thin pixel."""
    thick = matrix((0.3, 0.3, 5))
    assert apart(matrix((0.3, 0.3, 5), (0, 0, 0.4)), thick, (9, 9, 9)) == pytest.approx((0.08, 0.4))
    assert apart(matrix((0.3, 0.3, 5), (0.15, 0, 0)), thick, (9, 9, 9)) == pytest.approx((0.5, 0.15))


def test_an_error_of_the_spacing_grows_with_the_image() -> None:
    assert apart(matrix((1.001, 1, 1)), matrix((1, 1, 1)), (11, 11, 11))[0] == pytest.approx(0.01)
    assert apart(matrix((1.001, 1, 1)), matrix((1, 1, 1)), (513, 11, 11))[0] == pytest.approx(0.512)


def test_skew_is_what_moves_when_axes_are_made_square() -> None:
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    assert skewed(turn * [0.5, 2, 3], (100, 200, 30)) < 1e-9
    sheared = np.diag([1.5, 1.5, 5.0])
    sheared[0, 1] = 0.2
    assert skewed(sheared, (64, 64, 8)) == pytest.approx(63 * np.tan(np.arctan(0.2 / 1.5) / 2), rel=0.02)
    rounded = np.round(turn, 3)
    assert 0 < skewed(rounded, (256, 256, 256)) < SQUARE
    assert skewed(np.zeros((3, 3)), (2, 2, 2)) == float("inf")
    assert skewed(np.ones((3, 3)), (2, 2, 2)) == float("inf")
