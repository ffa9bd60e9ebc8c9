"""Intensities: clipping to percentiles or to a window, scaling, and what lies outside of a window."""

import numpy as np
import pytest

from jcl.data.intensities import as_seen, bare_sides, check_window, normalise, outside, scale_as, window_of
from jcl.errors import DataError


def test_normalise_by_hand() -> None:
    """Percentiles written again with sorting and linear interpolation."""
    array = np.random.default_rng(0).gamma(2, 100, (2, 3, 8, 9)).astype(np.float32)
    for method in ("minmax", "zscore"):
        scaled = normalise(array, method, (1.0, 99.0))
        for channel, found in zip(array.astype(np.float64), scaled, strict=True):
            ranked = np.sort(channel.ravel())
            ends: list[float] = []
            for percent in (1, 99):
                at = percent / 100 * (ranked.size - 1)
                low = int(at)
                ends.append(ranked[low] + (at - low) * (ranked[low + 1] - ranked[low]))
            clipped = channel.clip(*ends)
            if method == "minmax":
                expected = (clipped - ends[0]) / (ends[1] - ends[0])
            else:
                expected = (clipped - clipped.mean()) / clipped.std()
            np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("method", ["minmax", "zscore"])
@pytest.mark.parametrize("offset", [0.0, 1.7e6, -1e9])
def test_normalise_where_most_is_one_value(method: str, offset: float) -> None:
    array = np.full((1, 4, 20, 20), offset, np.float32)
    array[0, 2, 3, 4] += 1000
    scaled = normalise(array, method)
    assert np.isfinite(scaled).all()
    assert scaled.max() > scaled.min()


@pytest.mark.parametrize("in_place", [False, True])
def test_a_window_gives_each_value_one_meaning_in_every_scan(in_place: bool) -> None:
    """Half of a soft-tissue window is 40 HU, however much air or metal a CT has."""
    air = np.array([-1000.0, -1000.0, -160.0, 40.0, 240.0], np.float32).reshape(1, 1, 1, 5)
    metal = np.array([-100.0, -60.0, 40.0, 3000.0], np.float32).reshape(1, 1, 2, 2)
    preparation = {"normalisation": "minmax", "clip": [1.0, 99.0], "window": [-160.0, 240.0]}
    assert window_of(preparation) == (-160.0, 240.0)
    assert scale_as(air, preparation, in_place=in_place).ravel().tolist() == [0, 0, 0, 0.5, 1]
    assert scale_as(metal, preparation, in_place=in_place).ravel().tolist() == pytest.approx([0.15, 0.25, 0.5, 1])


def test_without_a_window_it_is_percentiles() -> None:
    array = np.random.default_rng(0).gamma(2, 100, (1, 3, 8, 9)).astype(np.float32)
    preparation = {"normalisation": "minmax", "clip": [2.0, 90.0]}
    assert window_of(preparation) is None
    assert np.array_equal(scale_as(array, preparation), normalise(array, "minmax", (2.0, 90.0)))


def test_zscore_follows_the_window() -> None:
    array = np.array([-1000.0, -160.0, 40.0, 240.0], np.float32).reshape(1, 1, 2, 2)
    clipped = array.clip(-160, 240)
    scaled = normalise(array, "zscore", window=(-160.0, 240.0))
    np.testing.assert_allclose(scaled, (clipped - clipped.mean()) / clipped.std(), rtol=1e-6)
    assert np.array_equal(normalise(array, "zscore", window=(3000.0, 4000.0)), np.zeros_like(array))


def test_what_is_looked_at_is_clipped_to_the_window() -> None:
    image = np.array([-1000, 0, 500], np.float32).reshape(1, 1, 3)
    assert as_seen(image, {"window": [-160, 240]}).ravel().tolist() == [-160, 0, 240]
    copy = as_seen(image, {})
    assert np.array_equal(copy, image)
    assert not np.shares_memory(copy, image)


def test_shares_outside_of_a_window() -> None:
    array = np.array([-1000, -161, -160, 0, 240, 241, 500, 3000], np.float32).reshape(1, 2, 2, 2)
    assert outside(array, (-160.0, 240.0)) == (0.25, 0.375)
    with pytest.raises(DataError, match=r"its values, -1000 to 3000, all lie outside of the window 50 to 60; see"):
        outside(array, (50.0, 60.0))


def test_sides_beyond_which_others_have_values() -> None:
    assert bare_sides((0.5, 0.0), (0.3, 0.009)) == []
    assert bare_sides((0.0, 0.02), (0.3, 0.02)) == ["below"]
    assert bare_sides((0.0031, 0.02), (0.3, 0.02)) == []
    assert bare_sides((0.0, 0.0), (0.3, 0.02)) == ["below", "above"]


@pytest.mark.parametrize("window", [(1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf")), (-1e31, 0.0)])
def test_what_is_no_window(window: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="two rising numbers are needed"):
        check_window(window)
