"""The segments of a DICOM-SEG object: frames of pixels, each somewhere on the voxels of a series."""

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from pydicom.dataset import Dataset

from jcl.data.affine import SAME, Affine, Size
from jcl.data.dicom.planes import text
from jcl.data.imagefile import check_memory
from jcl.errors import DataError

__all__ = ["named_segments", "segmented"]

PROBABLE = 0.5
"""From this probability on a voxel of a fractional segmentation belongs to the segment."""


def named_segments(dataset: Dataset) -> list[tuple[int, str]]:
    """Number and name of each segment."""
    segments = dataset.get("SegmentSequence", [])
    # Number 0 is the background of a label map.
    return [
        (int(each.SegmentNumber), text(each, "SegmentLabel") or f"segment {each.SegmentNumber}")
        for each in segments
        if int(each.SegmentNumber) > 0
    ]


def segmented(
    path: Path, dataset: Dataset, numbers: Collection[int], affine: Affine, size: Size
) -> Bool[np.ndarray, "z y x"]:
    """The voxels of a series that some segments take together; frames that are not there are empty.

    Args:
        path: for messages.
        dataset: with pixels.
        numbers: of the segments.
        affine: from indices x, y, z of the series to mm.
        size: voxels of the series along x, y, z.

    Raises:
        DataError: the pixels cannot be decoded, or a frame does not lie on the voxels of the series.
    """
    mask = np.zeros(size[::-1], np.bool_)
    for groups, pixels in _frames(path, dataset):
        chosen = _chosen(dataset, groups, pixels, numbers)
        if chosen.any():
            rows, columns = np.nonzero(chosen)
            x, y, z = _voxels(path, groups, affine, rows, columns, pixels.shape)
            if min(x.min(), y.min(), z.min()) < 0 or any(at.max() >= n for at, n in zip((x, y, z), size, strict=True)):
                raise DataError(f"{path}: a frame lies outside of its series; is a slice of the series missing?")
            mask[z, y, x] = True
    return mask


def _frames(path: Path, dataset: Dataset) -> Iterator[tuple[list[Dataset], np.ndarray]]:
    """Functional groups, those of the frame before those that all share, and pixels of each frame."""
    claimed = [int(text(dataset, name) or 0) for name in ("NumberOfFrames", "Rows", "Columns")]
    check_memory(path, math.prod(claimed), 1)
    try:
        pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
        shared = list(dataset.get("SharedFunctionalGroupsSequence", []))[:1]
        own = list(dataset.PerFrameFunctionalGroupsSequence)
    except Exception as error:  # what decoders and damaged headers raise can be of any type
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path}: its segments cannot be decoded ({reason}); save it uncompressed") from error
    if len(own) != len(pixels):
        raise DataError(f"{path}: has {len(pixels)} frames, but its header places {len(own)}; copy it again")
    for groups, frame in zip(own, pixels, strict=True):
        yield [groups, *shared], frame


def _chosen(
    dataset: Dataset, groups: list[Dataset], pixels: np.ndarray, numbers: Collection[int]
) -> Bool[np.ndarray, "rows columns"]:
    kind = text(dataset, "SegmentationType")
    if kind == "LABELMAP":  # one frame a plane, whose values are the segments' numbers
        return np.isin(pixels, list(numbers))
    number = _first(groups, "SegmentIdentificationSequence").get("ReferencedSegmentNumber")
    if number is None or int(number) not in numbers:
        return np.zeros(pixels.shape, np.bool_)
    full = float(dataset.get("MaximumFractionalValue", 1)) if kind == "FRACTIONAL" else 1.0
    return pixels >= PROBABLE * full


def _voxels(
    path: Path, groups: list[Dataset], affine: Affine, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxels (x, y, z) of the series at some pixels of a frame."""
    places = _frame_matrix(path, groups)
    steps = np.linalg.solve(affine[:3, :3], places[:, :2])
    start = np.linalg.solve(affine[:3, :3], places[:, 2] - affine[:3, 3])
    ends = np.array([[0, 0], [0, shape[1] - 1], [shape[0] - 1, 0], [shape[0] - 1, shape[1] - 1]], float)
    # Steps of whole voxels, and a start on one: else pixels of the frame lie between voxels.
    drift = np.abs((steps - np.rint(steps)) @ ends.T).max() + np.abs(start - np.rint(start)).max()
    if drift > SAME or not (np.abs(np.rint(steps)).sum(axis=0) == 1).all():
        raise DataError(
            f"{path}: its frames do not lie on the voxels of its series ({drift:.2g} voxels away); resample it to them"
        )
    index = np.rint(steps @ np.stack([rows, columns]) + start[:, None]).astype(int)
    return index[0], index[1], index[2]


def _frame_matrix(path: Path, groups: list[Dataset]) -> Float[np.ndarray, "3 3"]:
    """Columns: mm from one row to the next, from one column to the next, and the place of the first pixel."""
    try:
        position = np.array(_first(groups, "PlanePositionSequence").ImagePositionPatient, float)
        cosines = np.array(_first(groups, "PlaneOrientationSequence").ImageOrientationPatient, float).reshape(2, 3)
        spacing = np.array(_first(groups, "PixelMeasuresSequence").PixelSpacing, float)
        return np.stack([cosines[1] * spacing[0], cosines[0] * spacing[1], position], axis=1)
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{path}: does not say where its frames lie; save it again") from error


def _first(groups: list[Dataset], name: str) -> Any:
    """The first item of a functional group, of the frame's own or of those that all share."""
    return next((each[name][0] for each in groups if each.get(name)), Dataset())
