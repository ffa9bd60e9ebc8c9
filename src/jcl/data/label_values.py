"""Label values: whole numbers, none below 0, in a type that holds them; checked where they are read and written."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from jcl.data.sources import Source, suffix_of
from jcl.errors import DataError

__all__ = ["HIGHEST", "as_label_type", "label_type", "whole_values"]

HIGHEST = 2**31 - 1
"""The largest label value: every format for volumes can write it."""

WHOLE = 1e-3
"""A value so near to a whole number is meant to be it: it was scaled, or resampled without interpolation."""

EXACT = {"float16": 2**11, "float32": 2**24}
"""Up to here a type of floating point tells whole numbers from each other."""

TYPES = ("uint8", "uint16", "int32", "uint32")
"""Of label files, by preference."""

PICTURE_TYPES = ("uint8", "uint16")


def whole_values(source: Source, array: np.ndarray) -> Integer[np.ndarray, "z y x"]:
    """The voxels of a label file as whole numbers; integers stay of the type that they have.

    Args:
        source: what messages name.
        array: (c, z, y, x), as the file has them.

    Raises:
        DataError: there is more than one value per voxel, or one that is not a whole number, is below 0 or above
            `HIGHEST`, or that its type cannot tell from the next.
    """
    if len(array) != 1:
        raise DataError(f"{source}: a 4-D or colour label ({len(array)} values per voxel); one is needed")
    labels = array[0]
    kind = labels.dtype.kind
    if kind == "c":
        raise DataError(f"{source}: its values are complex numbers; a label has whole numbers")
    if kind == "b":
        labels = labels.view(np.uint8)
    elif kind == "f":
        labels = _rounded(source, labels)
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        raise DataError(
            f"{source}: its label values go down to {low}; they have to be 0 (background) or more: were they saved in a"
            " type too small for them?"
        )
    if high > HIGHEST:
        raise DataError(f"{source}: its label values go up to {high}; the largest that can be used is {HIGHEST}")
    return labels


def _rounded(source: Source, labels: np.ndarray) -> Integer[np.ndarray, "z y x"]:
    if not np.isfinite(labels).all():
        raise DataError(f"{source}: its label values are not whole numbers (some are NaN or infinite)")
    whole = np.rint(labels)
    away = np.abs(labels - whole)
    if (worst := float(away.max())) > WHOLE:
        shown = float(labels.reshape(-1)[int(away.argmax())])
        raise DataError(
            f"{source}: its label values are not whole numbers ({shown:.6g}, {worst:.2g} away); save it with nearest"
            " neighbours, or with thresholds"
        )
    farthest = float(np.abs(whole).max())
    if farthest > EXACT.get(labels.dtype.name, 2**53):
        raise DataError(
            f"{source}: its label values go up to {farthest:.10g}, but {labels.dtype.name} tells whole numbers apart"
            f" only up to {EXACT.get(labels.dtype.name, 2**53)}; save it with integers"
        )
    return whole.astype(np.int32 if farthest <= HIGHEST else np.int64)


def label_type(low: int, high: int, types: Sequence[str] = TYPES) -> str | None:
    """The first of these types that holds all values from `low` to `high`."""
    return next((kind for kind in types if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max), None)


def as_label_type(path: Path, labels: Integer[np.ndarray, "..."]) -> Integer[np.ndarray, "..."]:
    """Labels in the first type that a file of this name can have and that holds each of them.

    Raises:
        DataError: there is none; a PNG file has no values below 0 or above 65535, and a JPEG file no exact ones.
    """
    if suffix_of(path) in (".jpg", ".jpeg"):
        raise DataError(f"{path}: JPEG changes label values; use another format, as PNG")
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    picture = suffix_of(path) == ".png"
    kind = label_type(low, high, PICTURE_TYPES if picture else TYPES)
    if kind is None:
        what = "a PNG file" if picture else "a label file"
        raise DataError(
            f"{path}: its label values go from {low} to {high}, which {what} cannot hold; use another format"
        )
    return np.ascontiguousarray(labels, kind)
