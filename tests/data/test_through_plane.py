"""Resampling through the plane against slow loops, and there and back."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jcl.data.interpolation import make_taps
from jcl.data.through_plane import resample_label_through, resample_through, slices_through, through_of


def by_hand(values: list[float], count: int) -> list[float]:
    """A triangle as wide as the coarser of the two grids, over the same length, cut off at the ends."""
    step = len(values) / count
    reach = max(step, 1.0)
    found = []
    for number in range(count):
        centre = (number + 0.5) * step
        weights = [max(0.0, 1 - abs(place + 0.5 - centre) / reach) for place in range(len(values))]
        found.append(math.fsum(w * v for w, v in zip(weights, values, strict=True)) / math.fsum(weights))
    return found


@given(st.integers(2, 12), st.floats(0.5, 9), st.floats(0.5, 9), st.integers(0, 2**31))
def test_images_and_labels_are_those_of_the_loops(slices, spacing, target, seed):
    random = np.random.default_rng(seed)
    array = random.random((2, slices, 3, 2)).astype(np.float32)
    labels = random.integers(0, 4, size=(slices, 3, 2)).astype(np.uint8)
    count = slices_through(slices, spacing, target)
    assert count == max(1, round(slices * spacing / target))
    found, reached = resample_through(array, (spacing, 0.5, 0.7), target)
    classes = resample_label_through(labels, spacing, target)
    assert found.shape == (2, count, 3, 2)
    assert reached[0] * count == pytest.approx(slices * spacing)
    assert reached[1:] == (0.5, 0.7)
    if count == slices:
        assert found is array
        assert classes is labels
        return
    for channel in range(2):
        for row in range(3):
            for column in range(2):
                wanted = by_hand(array[channel, :, row, column].tolist(), count)
                assert found[channel, :, row, column].tolist() == pytest.approx(wanted, abs=1e-5)
    for row in range(3):
        for column in range(2):
            line = labels[:, row, column]
            shares = np.array([by_hand((line == value).astype(float).tolist(), count) for value in range(4)])
            best = np.sort(shares, axis=0)
            clear = best[-1] - best[-2] > 1e-4  # where two are equal, rounding decides in the loop
            assert np.array_equal(classes[clear, row, column], shares.argmax(0)[clear])


def test_a_smooth_phantom_comes_back():
    """Slices of 2 mm as of 1 mm and back: a wave of 60 mm loses what linear interpolation costs, 3 % of its height."""
    depth, row = np.mgrid[:40, :8].astype(np.float32)
    phantom = np.sin(2 * np.pi * (2 * depth + row) / 60)[None, :, :, None].repeat(4, 3)
    fine, spacing = resample_through(phantom, (2.0, 1.0, 1.0), 1.0)
    assert fine.shape[1] == 80
    back, spacing = resample_through(fine, spacing, 2.0)
    assert spacing == (2.0, 1.0, 1.0)
    assert np.abs(back - phantom).max() < 0.06
    assert np.abs(back - phantom)[:, 2:-2].max() < 0.03


def test_a_structure_comes_back():
    depth, row, column = np.mgrid[:20, :30, :30]
    ball = (np.hypot(np.hypot(row - 15, column - 15), 2 * (depth - 10)) < 12).astype(np.uint8)
    fine = resample_label_through(ball, 4.0, 1.0)
    assert len(fine) == 80
    assert (fine > 0).sum() == pytest.approx(4 * ball.sum(), rel=0.02)
    back = resample_label_through(fine, 1.0, 4.0)
    assert (back != ball).sum() < 0.02 * ball.sum()


def test_a_single_slice_stays_one():
    one = np.random.default_rng(0).random((1, 1, 4, 4)).astype(np.float32)
    found, spacing = resample_through(one, (8.0, 1.0, 1.0), 1.0)
    assert found is one
    assert spacing == (8.0, 1.0, 1.0)
    label = np.ones((1, 4, 4), np.uint8)
    assert resample_label_through(label, 8.0, 1.0) is label


def test_no_value_leaves_the_range_of_its_channel():
    array = np.full((1, 7, 3, 3), np.float32(0.1))
    array[0, 3] = np.float32(0.7)
    found, _ = resample_through(array, (3.0, 1.0, 1.0), 0.7)
    assert found.min() == array.min()
    assert found.max() <= array.max()


def test_ignored_voxels_are_a_class_like_others():
    labels = np.array([0, 255, 255, 1], np.uint8)[:, None, None]
    assert resample_label_through(labels, 2.0, 1.0).ravel().tolist() == [0, 0, 255, 255, 255, 255, 1, 1]


def test_preparations_of_before_say_nothing_of_it():
    assert through_of({}) is None
    assert through_of({"spacing_through": 2.0}) == 2.0


def test_a_part_of_a_line_has_shares_of_its_own_only():
    taps = make_taps(5, 5)
    assert taps.weights.tolist() == [[1.0] * 5]
