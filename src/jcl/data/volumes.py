"""Volumes: read, brought to one orientation, scaled, resampled, and written back: the only image I/O."""

import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from jaxtyping import Float32, Integer, UInt8
from torch.nn import functional

from jcl.data.geometry import Geometry, check_same_grid, orientation
from jcl.data.imagefile import readable, write_error
from jcl.errors import DataError

__all__ = [
    "Geometry",
    "Volume",
    "label_values",
    "map_labels",
    "normalise",
    "prepare_volume",
    "read_image",
    "read_label",
    "resample_image",
    "resample_label",
    "write_label",
]

CHUNK = 16
"""Slices resampled at a time, so that memory stays small."""

IMAGE_IO = {
    ".nii.gz": "NiftiImageIO",
    ".nii": "NiftiImageIO",
    ".nrrd": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
    ".png": "PNGImageIO",
}


@dataclass(frozen=True)
class Volume:
    """A volume in the common orientation.

    Attributes:
        array: float32 (c, d, h, w): channels, slices, rows, columns.
        spacing: through-plane, row and column spacing in mm.
        geometry: of its file.
    """

    array: Float32[np.ndarray, "c d h w"]
    spacing: tuple[float, float, float]
    geometry: Geometry


def read_image(paths: Sequence[Path], *, channels: int = 1) -> Volume:
    """Read a volume and turn it to the common orientation; voxels are moved, never interpolated.

    Args:
        paths: one file a channel (all on one grid), or a single one with the channels as its fourth
            axis. A 2-D image is a volume of one slice.
        channels: how many channels there have to be.

    Raises:
        DataError: a file cannot be read, has another number of channels, has voxels that are not
            finite, or is constant; the message names it.
    """
    parts: list[Float32[np.ndarray, "c d h w"]] = []
    geometry: Geometry | None = None
    for path in paths:
        array, found = _read_turned(path)
        if geometry is not None:
            check_same_grid(path, found, paths[0].name, geometry)
        geometry = geometry or found
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is told below
            array = np.ascontiguousarray(array, np.float32)
        if bad := np.count_nonzero(~np.isfinite(array)):
            raise DataError(f"{path}: {bad} voxels are NaN or infinite; mend it or leave it out")
        parts.append(array)
    if geometry is None or (len(paths) > 1 and any(len(part) > 1 for part in parts)):
        raise DataError(f"{paths[0] if paths else 'image'}: one 3-D file a channel is needed, or a single 4-D one")
    array = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if len(array) != channels:
        what = f"4-D ({len(array)} volumes)" if len(array) > 1 else "a single volume"
        mend = "split it, or name its channels in a dataset.json" if channels == 1 else "complete it or leave it out"
        raise DataError(f"{paths[0]}: {what}, but {channels} wanted; {mend}")
    for index, channel in enumerate(array):
        if channel.min() == channel.max():
            raise DataError(f"{paths[min(index, len(paths) - 1)]}: all voxels are {channel.flat[0]:g}; leave it out")
    return Volume(array, geometry.turned_spacing, geometry)


def read_label(path: Path, like: Volume) -> Integer[np.ndarray, "d h w"]:
    """Read the labels of `like`, turned as it is. The values are those of the file.

    Raises:
        DataError: the file cannot be read, has another shape or position than the image, or a value
            that is no whole number.
    """
    array, geometry = _read_turned(path, like.geometry)
    check_same_grid(path, geometry, "its image", like.geometry)
    return np.ascontiguousarray(_whole(path, array))


def label_values(path: Path) -> tuple[int, ...]:
    """The values in a label file, rising.

    Raises:
        DataError: as `read_label`.
    """
    return tuple(np.unique(_whole(path, _read_turned(path)[0])).tolist())


def _whole(path: Path, array: np.ndarray) -> Integer[np.ndarray, "d h w"]:
    if len(array) != 1:
        raise DataError(f"{path}: a 4-D label; one value a voxel is needed")
    labels = array[0]
    if np.issubdtype(labels.dtype, np.integer):
        return labels
    if not (np.isfinite(labels).all() and np.array_equal(np.rint(labels), labels) and np.abs(labels).max() < 2**31):
        raise DataError(f"{path}: its label values are not whole numbers")
    return labels.astype(np.int32)


def map_labels(
    labels: Integer[np.ndarray, "d h w"], classes: Mapping[int, int], *, other: str, path: Path
) -> UInt8[np.ndarray, "d h w"]:
    """Label values of a file as classes of a store; what is not in `classes` and not 0 is `other`.

    Raises:
        DataError: there are other values, and `other` is not `background`.
    """
    mapped = np.zeros(labels.shape, np.uint8)
    unknown: list[int] = []
    for value in np.unique(labels).tolist():
        if value in classes:
            mapped[labels == value] = classes[value]
        elif value != 0:
            unknown.append(value)
    if unknown and other != "background":
        shown = ", ".join(str(value) for value in unknown[:8]) + (", ..." if len(unknown) > 8 else "")
        raise DataError(f"{path}: unknown label values {shown}; known are {', '.join(map(str, classes)) or 'none'}")
    return mapped


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
    array: Float32[np.ndarray, "c d h w"], spacing: tuple[float, float, float], target: float | None
) -> tuple[Float32[np.ndarray, "c d H W"], tuple[float, float, float]]:
    """Resample each slice in its plane, linearly and without aliasing; also returns the spacing reached.

    No value leaves the range of its channel. Without a target, or with one that changes nothing, the
    array is returned as it is.
    """
    shape, reached = _plan(array.shape[-2:], spacing, target)
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
    labels: UInt8[np.ndarray, "d h w"], spacing: tuple[float, float, float], target: float | None
) -> UInt8[np.ndarray, "d H W"]:
    """Resample labels in plane: each class by itself as an image, then the largest share wins.

    The background's share is what the others leave; where two are equal, the lower class wins.
    """
    shape, _ = _plan(labels.shape[-2:], spacing, target)
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
    shape: tuple[int, ...], spacing: tuple[float, float, float], target: float | None
) -> tuple[tuple[int, int], tuple[float, float, float]]:
    """Rows and columns after resampling, and the spacing that these make."""
    rows, columns = shape
    if target is None:
        return (rows, columns), spacing
    new = (max(1, round(rows * spacing[1] / target)), max(1, round(columns * spacing[2] / target)))
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
    return resample_image(scaled, volume.spacing, recipe["spacing"])


def write_label(path: Path, labels: Integer[np.ndarray, "d h w"], geometry: Geometry) -> None:
    """Write labels on the source's own grid, in its orientation and geometry; `path` decides the format.

    The file gets its name when it is whole. `geometry.suffix` is the format of the source.

    Raises:
        WriteError: the disk is full, or the file cannot be written.
        ValueError: the labels do not have the shape of the geometry.
    """
    if labels.shape != geometry.shape:
        raise ValueError(f"labels have the shape {labels.shape}; the source has {geometry.shape}")
    highest = int(labels.max(initial=0))
    kind = np.uint8 if highest < 256 else np.uint16 if highest < 65536 else np.int32
    array = np.ascontiguousarray(geometry.turn_back(labels), kind)
    image = sitk.GetImageFromArray(array[0] if len(geometry.size) == 2 else array)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    try:
        with tempfile.TemporaryDirectory(prefix=".jcl-", dir=path.parent) as folder:
            _write_checked(Path(folder, path.name), image)
            # A .mhd comes with a file of voxels, which has to be there first.
            for file in sorted(Path(folder).iterdir(), key=lambda file: file.name == path.name):
                file.replace(path.parent / file.name)
    except OSError as error:
        raise write_error(path, error) from error


def _write_checked(path: Path, image: sitk.Image) -> None:
    """Write, and read again: on a full disk not every writer says that it failed."""
    try:
        sitk.WriteImage(image, str(path), useCompression=_suffix(path) != ".nii")
        with readable(path):
            pass
    except (RuntimeError, DataError) as error:
        raise OSError(_reason(error)) from error


def _suffix(path: Path) -> str:
    suffix = next((suffix for suffix in IMAGE_IO if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise DataError(f"{path}: not a known image format; known are {', '.join(IMAGE_IO)}")
    return suffix


def _read_turned(path: Path, like: Geometry | None = None) -> tuple[np.ndarray, Geometry]:
    """The array (c, d, h, w) in the common orientation, or turned as `like` was, and its geometry."""
    image = _read(path)
    dimension, rank = image.GetDimension(), min(image.GetDimension(), 3)
    matrix = np.array(image.GetDirection()).reshape(dimension, dimension)[:rank, :rank]
    size, spacing, origin = image.GetSize()[:rank], image.GetSpacing()[:rank], image.GetOrigin()[:rank]
    if not all(math.isfinite(value) and value > 0 for value in spacing) or not np.isfinite(origin).all():
        raise DataError(f"{path}: its spacing is {spacing}, its origin {origin}; correct the file's header")
    if not np.allclose(matrix.T @ matrix, np.eye(rank), atol=1e-3):
        raise DataError(f"{path}: its axes are not at right angles; resample it to a grid that is")
    axes, flips = (like.axes, like.flips) if like else orientation(matrix, spacing, size)
    direction = tuple(float(value) for value in matrix.ravel())
    geometry = Geometry(size, spacing, origin, direction, _suffix(path), axes, flips)
    array: np.ndarray = sitk.GetArrayFromImage(image)
    return geometry.turn(array.reshape(-1, *(1,) * (3 - rank), *size[::-1])), geometry


def _read(path: Path) -> sitk.Image:
    """Read with SimpleITK, which is told the format, so that no other reader tries its luck."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO(IMAGE_IO[_suffix(path)])
    sitk.ProcessObject.GlobalWarningDisplayOff()  # its warnings do not name the file; what they tell is checked here
    with readable(path) as file:
        reader.SetFileName(str(file))
        try:
            image = reader.Execute()
        except RuntimeError as error:
            raise DataError(f"{path}: cannot be read ({_reason(error).replace(str(file), path.name)})") from error
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise DataError(f"{path}: {image.GetNumberOfComponentsPerPixel()} values a voxel (colour?); one is needed")
    if image.GetDimension() > 4:
        raise DataError(f"{path}: a {image.GetDimension()}-D image; at most 4 dimensions are supported")
    return image


def _reason(error: Exception) -> str:
    """The last line of ITK's long message, without the address of an object, which differs from run to run."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = re.sub(r"^(ITK ERROR: )?(\w+\(0x[0-9a-f]+\): )?", "", lines[-1] if lines else "unknown reason")
    return "".join(letter if letter.isprintable() else "?" for letter in last[:200])
