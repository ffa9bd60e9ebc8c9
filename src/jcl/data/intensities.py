"""Intensities: volumes are clipped to percentiles of their own, or to a window of values, and scaled."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from jcl.data.percentiles import percentiles
from jcl.errors import DataError

__all__ = ["Window", "as_seen", "bare_sides", "check_window", "normalise", "outside", "scale_as", "window_of"]

Window = tuple[float, float]
"""The lowest and the highest value that are told from others, in the unit of the files: Hounsfield units of a CT."""


LEAST = 0.01
"""Of a scan's values beyond a side of the window: where others have less there, none is missed."""

BARE = 0.01
"""Of what others have there: with less, a scan has as good as none."""


def normalise(
    array: Float32[np.ndarray, "c d h w"],
    method: str = "minmax",
    clip: tuple[float, float] = (1.0, 99.0),
    *,
    window: Window | None = None,
    in_place: bool = False,
) -> Float32[np.ndarray, "c d h w"]:
    """Clip each channel to two percentiles of the volume (paper: 1 and 99), or to a window, then scale it.

    `minmax` gives [0, 1], `zscore` mean 0 and standard deviation 1. Where both percentiles are the
    same value (a small structure in front of nothing), the volume's own range takes their place.
    By `minmax` a window's ends become 0 and 1 in every volume, so that a value has one meaning in all.
    With `in_place` the array itself is changed and returned.
    """
    scaled = array if in_place else np.empty(array.shape, np.float32)
    for channel, out in zip(array, scaled, strict=True):
        low, high = window or percentiles(channel, clip)
        if not low < high:
            low, high = channel.min(), channel.max()
        np.clip(channel, low, high, out=out)
        if method == "zscore":
            mean, deviation = float(out.mean(dtype=np.float64)), float(out.std(dtype=np.float64)) or 1.0
        else:
            mean, deviation = float(low), float(high) - float(low)
        out -= np.float32(mean)
        out /= np.float32(deviation)
        if method != "zscore":
            np.clip(out, 0, 1, out=out)
    return scaled


def scale_as(
    array: Float32[np.ndarray, "c d h w"], preparation: Mapping[str, Any], *, in_place: bool = False
) -> Float32[np.ndarray, "c d h w"]:
    """A volume's intensities as a store with this preparation has them."""
    low, high = preparation["clip"]
    how = preparation["normalisation"]
    return normalise(array, how, (low, high), window=window_of(preparation), in_place=in_place)


def window_of(preparation: Mapping[str, Any]) -> Window | None:
    """The window of a preparation that has one; the others clip to percentiles."""
    found = preparation.get("window")
    return None if found is None else (float(found[0]), float(found[1]))


def as_seen(image: Float32[np.ndarray, "d h w"], preparation: Mapping[str, Any]) -> Float32[np.ndarray, "d h w"]:
    """A copy of a channel to look at: in its own values, of which those outside of the window are clipped."""
    window = window_of(preparation)
    return image.copy() if window is None else image.clip(*window)


def outside(array: Float32[np.ndarray, "c d h w"], window: Window) -> tuple[float, float]:
    """The shares of a volume's values that lie below a window and above it, to a ten-thousandth.

    Raises:
        DataError: all of them do, so that nothing would be seen of it.
    """
    low, high = window
    below, above = np.count_nonzero(array < low), np.count_nonzero(array > high)
    if below + above == array.size:
        raise DataError(
            f"its values, {array.min():g} to {array.max():g}, all lie outside of the window {low:g} to {high:g}; "
            "see their unit, or prepare it with another --window"
        )
    return round(below / array.size, 4), round(above / array.size, 4)


def bare_sides(own: Sequence[float], others: Sequence[float]) -> list[str]:
    """The sides of a window, `below` and `above`, beyond which a scan has next to none of its values, as others have.

    Air lies below the window of every CT; where none does, the values are hardly Hounsfield units.

    Args:
        own: what `outside` says of the scan: two shares.
        others: the same of others.
    """
    pairs = zip(("below", "above"), own, others, strict=True)
    return [side for side, mine, theirs in pairs if theirs >= LEAST and mine < BARE * theirs]


def check_window(window: Window) -> None:
    """See that a window is one.

    Raises:
        ValueError: its ends are no two rising numbers, or further apart than float32 has values.
    """
    low, high = window
    if not -1e30 < low < high < 1e30:
        raise ValueError(f"window = {list(window)}; two rising numbers are needed, in the unit of the files")
