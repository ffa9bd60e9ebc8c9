"""Resampling through the plane: as many slices of a volume as make a spacing that was asked for.

Images go over linearly and without aliasing, labels class by class, as both do in their plane. The slices begin and end
where those of the source do. A volume of one slice, between which and another nothing can lie, stays as it is.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from jcl.data.interpolation import interpolate_classes, make_taps, resample_rows

__all__ = ["resample_label_through", "resample_through", "slices_through", "through_of"]

KEY = "spacing_through"
"""Of a preparation, where slices are resampled through their plane: the spacing in mm."""


def through_of(preparation: Mapping[str, Any]) -> float | None:
    """The spacing through the plane that volumes are brought to, in mm; None for that of each."""
    return preparation.get(KEY)


def slices_through(slices: int, spacing: float, target: float | None) -> int:
    """How many slices a volume has after resampling.

    Args:
        slices: of the source.
        spacing: of the source through the plane, mm.
        target: asked for, mm; None keeps them.

    Example:
        >>> slices_through(10, 8.0, 2.0), slices_through(10, 8.0, None), slices_through(1, 8.0, 2.0)
        (40, 10, 1)
    """
    return slices if target is None or slices == 1 else max(1, round(slices * spacing / target))


def resample_through(
    array: Float32[np.ndarray, "c d h w"], spacing: tuple[float, float, float], target: float | None
) -> tuple[Float32[np.ndarray, "c D h w"], tuple[float, float, float]]:
    """A volume with other slices, and the spacing reached; where nothing changes the array itself.

    No value leaves the range of its channel.

    Args:
        array: channels, slices, rows and columns.
        spacing: through-plane, row and column; mm.
        target: through the plane; mm.
    """
    slices, count = array.shape[1], slices_through(array.shape[1], spacing[0], target)
    if count == slices:
        return array, spacing
    taps = make_taps(slices, count)
    out = np.empty((len(array), count, *array.shape[2:]), np.float32)
    for channel, resampled in zip(array, out, strict=True):
        low, high = channel.min(), channel.max()
        resampled[...] = resample_rows(channel.reshape(1, slices, -1), taps).reshape(resampled.shape)
        np.clip(resampled, low, high, out=resampled)
    return out, (slices * spacing[0] / count, *spacing[1:])


def resample_label_through(
    labels: UInt8[np.ndarray, "d h w"], spacing: float, target: float | None
) -> UInt8[np.ndarray, "D h w"]:
    """Labels with other slices: at each place in the plane each class by itself, then the largest share wins.

    Args:
        labels: classes.
        spacing: through the plane; mm.
        target: through the plane; mm.
    """
    count = slices_through(len(labels), spacing, target)
    if count == len(labels):
        return labels
    taps = make_taps(len(labels), count), make_taps(labels.shape[2], labels.shape[2])
    out = np.zeros((count, *labels.shape[1:]), np.uint8)
    for row in range(labels.shape[1]):
        if labels[:, row].any():
            resampled = np.zeros((count, labels.shape[2]), np.uint8)
            interpolate_classes(labels[:, row], taps, resampled)
            out[:, row] = resampled
    return out
