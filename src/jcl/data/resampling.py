"""Intensities and grids: volumes are clipped and scaled, and their slices resampled in plane."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch.nn import functional

from jcl.data.volumes import Volume

__all__ = ["fit_of", "normalise", "prepare_volume", "resample_image", "resample_label"]

CHUNK = 16
"""Slices resampled at a time, so that memory stays small."""


def normalise(
    array: Float32[np.ndarray, "c d h w"], method: str = "minmax", clip: tuple[float, float] = (1.0, 99.0)
) -> Float32[np.ndarray, "c d h w"]:
    """Clip each channel to two percentiles of the volume (paper: 1 and 99), then scale it.

    `minmax` gives [0, 1], `zscore` mean 0 and standard deviation 1. Where both percentiles are the
    same value (a small structure in front of nothing), the volume's own range takes their place.
    """
    scaled = np.empty(array.shape, np.float32)
    for channel, out in zip(array, scaled, strict=True):
        low, high = np.percentile(channel, clip).astype(np.float32)
        if not low < high:
            low, high = channel.min(), channel.max()
        np.clip(channel, low, high, out=out)
        if method == "zscore":
            mean, deviation = float(out.mean(dtype=np.float64)), float(out.std(dtype=np.float64))
        else:
            mean, deviation = float(low), float(high) - float(low)
        out -= np.float32(mean)
        out /= np.float32(deviation)
        if method != "zscore":
            np.clip(out, 0, 1, out=out)
    return scaled


def resample_image(
    array: Float32[np.ndarray, "c d h w"],
    spacing: tuple[float, float, float],
    target: float | None,
    fit: int | None = None,
) -> tuple[Float32[np.ndarray, "c d H W"], tuple[float, float, float]]:
    """Resample each slice in its plane, linearly and without aliasing; also returns the spacing reached.

    No value leaves the range of its channel. Without a target, or with one that changes nothing, the
    array is returned as it is.

    Args:
        target: in-plane spacing in mm; None keeps what there is.
        fit: instead of `target`, the pixels that the longer side is brought to.
    """
    shape, reached = _plan(array.shape[-2:], spacing, target, fit)
    if shape == array.shape[-2:]:
        return array, reached
    out = np.empty((*array.shape[:2], *shape), np.float32)
    for start in range(0, array.shape[1], CHUNK):
        part = np.ascontiguousarray(array[:, start : start + CHUNK])
        out[:, start : start + CHUNK] = _interpolate(part, shape)
    for channel, source in zip(out, array, strict=True):
        np.clip(channel, source.min(), source.max(), out=channel)
    return out, reached


def resample_label(
    labels: UInt8[np.ndarray, "d h w"],
    spacing: tuple[float, float, float],
    target: float | None,
    fit: int | None = None,
) -> UInt8[np.ndarray, "d H W"]:
    """Resample labels in plane: each class by itself as an image, then the largest share wins.

    The background's share is what the others leave; where two are equal, the lower class wins.
    """
    shape, _ = _plan(labels.shape[-2:], spacing, target, fit)
    if shape == labels.shape[-2:]:
        return labels
    out = np.zeros((len(labels), *shape), np.uint8)
    for start in range(0, len(labels), CHUNK):
        part = labels[start : start + CHUNK]
        values = np.flatnonzero(np.bincount(part.ravel())).tolist()
        best, total = np.zeros((2, len(part), *shape), np.float32)
        for value in (value for value in values if value != 0):
            share = _interpolate((part == value).astype(np.float32)[None], shape)[0]
            won = share > best
            best[won] = share[won]
            out[start : start + CHUNK][won] = value
            total += share
        out[start : start + CHUNK][best <= 1 - total] = 0
    return out


def _plan(
    shape: tuple[int, ...], spacing: tuple[float, float, float], target: float | None, fit: int | None
) -> tuple[tuple[int, int], tuple[float, float, float]]:
    """Rows and columns after resampling, and the spacing that these make."""
    rows, columns = shape
    if fit is not None:
        factors = (fit / max(shape), fit / max(shape))
    elif target is not None:
        factors = (spacing[1] / target, spacing[2] / target)
    else:
        return (rows, columns), spacing
    new = (max(1, round(rows * factors[0])), max(1, round(columns * factors[1])))
    return new, (spacing[0], rows * spacing[1] / new[0], columns * spacing[2] / new[1])


def _interpolate(array: Float32[np.ndarray, "c d h w"], shape: tuple[int, int]) -> Float32[np.ndarray, "c d H W"]:
    images = torch.from_numpy(array)
    return functional.interpolate(images, shape, mode="bilinear", align_corners=False, antialias=True).numpy()


def prepare_volume(
    volume: Volume, recipe: Mapping[str, Any]
) -> tuple[Float32[np.ndarray, "c d H W"], tuple[float, float, float]]:
    """A volume as the slices of a store with this recipe are: scaled and resampled, not yet padded.

    Also returns the spacing reached (through-plane, row, column; mm).
    """
    low, high = recipe["clip"]
    scaled = normalise(volume.array, recipe["normalisation"], (low, high))
    return resample_image(scaled, volume.spacing, recipe["spacing"], fit_of(recipe))


def fit_of(recipe: Mapping[str, Any]) -> int | None:
    """The longer side of every slice, in a recipe that asks for slices of one size."""
    return recipe["size"] if recipe.get("fit") else None
