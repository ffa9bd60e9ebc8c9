"""Labels over images: colours, outlines, and other sizes."""

import math

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, Integer, UInt8

from jcl.data.store import CaseRecord
from jcl.report.figures.pictures import COLOURS

__all__ = [
    "FILL",
    "extent",
    "outline",
    "overlay",
    "resampling",
    "resize_labels",
    "rgb",
    "scaled_size",
    "veil",
    "windowed",
]

FILL = 0.25
"""Opacity of a structure inside its outline."""

WINDOW = (0.5, 99.5)
"""Percentiles of an image that are shown as black and white."""


def rgb(colour: str) -> tuple[int, int, int]:
    """Values of a colour as `#rrggbb`."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def windowed(image: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Intensities from 0 to 1, all of the image in one window."""
    low, high = np.percentile(image, WINDOW)
    return ((image - low) / max(float(high - low), 1e-6)).clip(0, 1)


def extent(record: CaseRecord) -> tuple[float, float]:
    """Height and width of a case's slices in mm; a spacing that is none counts as 1."""
    spacing = [s if math.isfinite(s) and s > 0 else 1.0 for s in record.spacing[1:]]
    return max(1, record.shape[0]) * spacing[0], max(1, record.shape[1]) * spacing[1]


def scaled_size(lengths: tuple[float, float], room: tuple[int, int]) -> tuple[int, int]:
    """Height and width in pixels of something of these lengths, as large as the room allows."""
    factor = min(room[0] / lengths[0], room[1] / lengths[1])
    height, width = (max(1, min(side, round(length * factor))) for side, length in zip(room, lengths, strict=True))
    return height, width


def resampling(bins: int, size: int) -> Float32[np.ndarray, "{bins} {size}"]:
    """Weights of `size` pixels in each of `bins` that cover the same length: linear, and averaging if fewer."""
    step = size / bins
    centres = (np.arange(bins) + 0.5) * step - 0.5
    weights = (1 - np.abs(centres[:, None] - np.arange(size)) / max(step, 1.0)).clip(min=0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def resize_labels(
    labels: UInt8[np.ndarray, "h w"], rows: Float32[np.ndarray, "H h"], columns: Float32[np.ndarray, "W w"]
) -> Int64[np.ndarray, "H W"]:
    """The class with the largest share in each new pixel, which gives smooth outlines."""
    values = np.unique(labels)
    shares = np.stack([rows @ (labels == value).astype(np.float32) @ columns.T for value in values])
    return values.astype(np.int64)[shares.argmax(axis=0)]


def outline(labels: Integer[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Pixels with an edge neighbour of another label, on both sides of each border."""
    padded = np.pad(labels, 1, mode="edge")
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.any([labels != other for other in neighbours], axis=0)


def veil(picture: Float[np.ndarray, "h w 3"], where: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 3"]:
    """The picture greyed where nobody has decided on the voxels."""
    return np.where(where[..., None], 0.5 * picture + 0.25, picture)


def overlay(picture: Float[np.ndarray, "h w 3"], labels: Int64[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 3"]:
    """Each class in its colour: thinly filled, with an outline inside its border."""
    colours = np.array([rgb(colour) for colour in COLOURS]) / 255
    opacity = np.where(labels == 0, 0.0, np.where(outline(labels), 1.0, FILL))[..., None]
    return picture * (1 - opacity) + colours[(labels - 1) % len(COLOURS)] * opacity
