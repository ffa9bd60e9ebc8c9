"""The contours of an RTSTRUCT on the voxels of a series: a voxel belongs to a structure if its centre lies inside.

Or if a contour runs through its centre: programs that follow the outermost voxels of a mask draw it there.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer
from pydicom.dataset import Dataset

from jcl.data.affine import Affine, Size
from jcl.data.dicom.planes import text
from jcl.data.notes import note
from jcl.errors import DataError

__all__ = ["contoured", "named_contours"]

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "CLOSEDPLANAR")

ON = 1e-3
"""A centre that is no farther from a contour (pixels) lies on it: coordinates are rounded."""

BESIDE = 0.25
"""A contour so many slices away from the next one was drawn on another series."""


def named_contours(dataset: Dataset) -> list[tuple[int, str]]:
    """Number and name of each region that has closed contours; points and lines enclose nothing."""
    closed = {number for number, _ in _contours(dataset)}
    regions = [(int(each.ROINumber), text(each, "ROIName")) for each in dataset.StructureSetROISequence]
    return [(number, name or f"region {number}") for number, name in regions if number in closed]


def contoured(
    path: Path, dataset: Dataset, numbers: Collection[int], affine: Affine, size: Size
) -> Bool[np.ndarray, "z y x"]:
    """The voxels of a series whose centres lie inside of the contours of some regions.

    Contours of one region on one slice are combined by exclusive or: one inside another is a hole.

    Args:
        path: for messages.
        dataset: of the RTSTRUCT.
        numbers: of the regions.
        affine: from indices x, y, z of the series to mm.
        size: voxels of the series along x, y, z.

    Raises:
        DataError: contours do not lie on the slices of the series.
    """
    mask = np.zeros(size[::-1], np.bool_)
    outside = 0
    for wanted in sorted(numbers):
        inside, passed = np.zeros_like(mask), np.zeros_like(mask)
        for number, points in _contours(dataset):
            if number == wanted:
                places = np.linalg.solve(affine[:3, :3], (points - affine[:3, 3]).T)
                slice_number = _slice_of(path, places[2])
                if 0 <= slice_number < len(mask):
                    _draw(inside[slice_number], passed[slice_number], places[:2].T)
                else:
                    outside += 1
        mask |= inside | passed
    if outside:
        note(f"{path}: {outside} contours lie above or below the slices of the series and were left out")
    return mask


def _contours(dataset: Dataset) -> Iterator[tuple[int, Float[np.ndarray, "n 3"]]]:
    """Region and points (mm, LPS) of each closed contour."""
    for region in dataset.get("ROIContourSequence", []):
        for contour in region.get("ContourSequence", []):
            points = _numbers(contour.get("ContourData", None))
            if text(contour, "ContourGeometricType").upper() in CLOSED and len(points) > 0 and len(points) % 3 == 0:
                yield int(region.ReferencedROINumber), points.reshape(-1, 3)


def _numbers(value: Any) -> Float[np.ndarray, " n"]:
    """Numbers of an element; of one too long for its type, which then has none (`UN`), from its text."""
    if isinstance(value, bytes):
        value = value.decode("ascii").strip(" \0").split("\\")
    return np.array(value or [], float)


def _slice_of(path: Path, heights: Float[np.ndarray, " n"]) -> int:
    """Number of the slice on which a contour lies."""
    nearest = round(float(heights.mean()))
    away = float(np.abs(heights - nearest).max())
    if away > BESIDE:
        raise DataError(
            f"{path}: a contour lies between the slices of its series ({away:.2g} slices away); export it for this one"
        )
    return nearest


def _draw(inside: Bool[np.ndarray, "y x"], passed: Bool[np.ndarray, "y x"], polygon: Float[np.ndarray, "n 2"]) -> None:
    """Turn over the pixels whose centres lie inside of a polygon of (x, y), and mark those that it runs through."""
    limits = (inside.shape[1] - 1, inside.shape[0] - 1)
    low = [max(0, int(np.ceil(value - ON))) for value in polygon.min(axis=0)]
    high = [min(limit, int(np.floor(value + ON))) for limit, value in zip(limits, polygon.max(axis=0), strict=True)]
    if low[0] > high[0] or low[1] > high[1]:
        return
    size = (high[1] - low[1] + 1, high[0] - low[0] + 1)
    on = np.zeros(size, np.bool_)
    on[_passed(polygon - low, size)] = True
    part = np.s_[low[1] : high[1] + 1, low[0] : high[0] + 1]
    inside[part] ^= _enclosed(polygon - low, size) & ~on
    passed[part] |= on


def _enclosed(polygon: Float[np.ndarray, "n 2"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Pixels to whose left the closed line crosses their row an odd number of times."""
    starts, ends = polygon, np.roll(polygon, -1, axis=0)
    # A side crosses the rows from its upper end on to before its lower one, so that a corner on a row counts once.
    low, high = np.ceil(np.minimum(starts[:, 1], ends[:, 1])), np.ceil(np.maximum(starts[:, 1], ends[:, 1]))
    side, rows = _runs(low, (high - low).astype(int))
    steps = ends - starts
    columns = starts[side, 0] + (rows - starts[side, 1]) * steps[side, 0] / steps[side, 1]
    crossings = np.zeros((size[0], size[1] + 1), np.int64)
    seen = (rows >= 0) & (rows < size[0])
    places = np.clip(np.ceil(columns[seen]), 0, size[1]).astype(int)
    np.add.at(crossings, (rows[seen].astype(int), places), 1)
    return crossings.cumsum(axis=1)[:, :-1] % 2 == 1


def _runs(first: Float[np.ndarray, " n"], counts: Integer[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """So many numbers in a row from each first one on: which run each is of, and the numbers."""
    run = np.repeat(np.arange(len(first)), counts)
    return run, first[run] + np.arange(len(run)) - np.repeat(np.cumsum(counts) - counts, counts)


def _passed(polygon: Float[np.ndarray, "n 2"], shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels through whose centres the closed line runs."""
    starts, steps = polygon, np.roll(polygon, -1, axis=0) - polygon
    longer = np.abs(steps).argmax(axis=1)[:, None]  # the axis along which a side is followed, from centre to centre
    start, step = (np.take_along_axis(each, longer, axis=1)[:, 0] for each in (starts, steps))
    low, high = np.ceil(np.minimum(start, start + step) - ON), np.floor(np.maximum(start, start + step) + ON)
    side, along = _runs(low, np.maximum(high - low + 1, 0).astype(int))
    share = np.clip((along - start[side]) / np.where(step == 0, 1, step)[side], 0, 1)
    places = starts[side] + share[:, None] * steps[side]
    centres = np.rint(places).astype(int)
    kept = (
        (np.abs(places - centres).max(axis=1) <= ON) & (centres >= 0).all(axis=1) & (centres < shape[::-1]).all(axis=1)
    )
    return centres[kept, 1], centres[kept, 0]
