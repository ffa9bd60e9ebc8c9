"""Volumes: read, brought to one orientation, scaled, resampled, and written back: the only image I/O."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from jaxtyping import Float, Float32, Integer, UInt8
from torch.nn import functional

from jcl.data.imagefile import readable, write_error
from jcl.errors import DataError

__all__ = [
    "Geometry",
    "Volume",
    "map_labels",
    "normalise",
    "prepare_volume",
    "read_image",
    "read_label",
    "resample_image",
    "resample_label",
    "write_label",
]

SLICE_DIRECTION = np.array([0.6, -0.6, 0.3])
"""The slice axis runs along it (left, posterior, superior): axial slices to the head, short axes to the apex."""
ROW_DIRECTION = np.array([0.0, 0.5, -0.87])
"""Rows run along it: to the back in axial slices, else to the feet."""
COLUMN_DIRECTION = np.array([0.8, 0.6, 0.0])
"""Columns run along it: to the left, or in sagittal slices to the back."""

COARSER = 1.25
"""An axis so many times coarser than the next is the one along which slices were taken."""

TOLERANCE = 0.1
"""An image and its label may lie apart by this share of the smallest spacing."""

CHUNK = 16
"""Slices resampled at a time, so that memory stays small."""

IMAGE_IO = {
    ".nii.gz": "NiftiImageIO",
    ".nii": "NiftiImageIO",
    ".nrrd": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
    ".png": "PNGImageIO",
    ".jpg": "JPEGImageIO",
    ".jpeg": "JPEGImageIO",
    ".tif": "TIFFImageIO",
    ".tiff": "TIFFImageIO",
    ".bmp": "BMPImageIO",
}


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a source lie, in its own axes (x, y, z as SimpleITK has them), and how it was turned.

    Attributes:
        size, spacing, origin: per axis; voxels and mm. Two values for a 2-D image.
        direction: cosines, row by row, in LPS (4 or 9 values).
        suffix: of the file, with its dot.
        axes: which array axis (z, y, x) of the source became slices, rows and columns.
        flips: whether slices, rows and columns were reversed.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    suffix: str
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns on the source's own grid, after turning."""
        array = (1,) * (3 - len(self.size)) + self.size[::-1]
        return (array[self.axes[0]], array[self.axes[1]], array[self.axes[2]])

    @property
    def turned_spacing(self) -> tuple[float, float, float]:
        """Through-plane, row and column spacing in mm."""
        array = (1.0,) * (3 - len(self.size)) + self.spacing[::-1]
        return (array[self.axes[0]], array[self.axes[1]], array[self.axes[2]])


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
        image = _read(path)
        array, found = _turned(path, image)
        if geometry is not None:
            _check_same_grid(path, found, paths[0], geometry)
        geometry = geometry or found
        array = array.astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            raise DataError(f"{path}: {np.count_nonzero(~np.isfinite(array))} voxels are NaN or infinite")
        parts.append(array)
    if geometry is None:
        raise DataError("no image file was given")
    array = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if len(array) != channels:
        what = "4-D" if len(paths) == 1 and len(array) > 1 else f"{len(array)}-channel"
        raise DataError(f"{paths[0]}: a {what} image, {channels} channel(s) expected; split it, or list its channels in a dataset.json")
    for index, channel in enumerate(array):
        if channel.min() == channel.max():
            raise DataError(f"{paths[min(index, len(paths) - 1)]}: all voxels have the value {channel.flat[0]:g}")
    return Volume(np.ascontiguousarray(array), geometry.turned_spacing, geometry)


def read_label(path: Path, like: Volume) -> Integer[np.ndarray, "d h w"]:
    """Read the labels of `like`, turned as it is. The values are those of the file.

    Raises:
        DataError: the file cannot be read, has another shape or position than the image, or a value
            that is no whole number.
    """
    array, geometry = _turned(path, _read(path), like.geometry)
    _check_same_grid(path, geometry, None, like.geometry)
    if len(array) != 1:
        raise DataError(f"{path}: a 4-D label; one value a voxel is needed")
    labels = array[0]
    if not np.issubdtype(labels.dtype, np.integer):
        whole = np.rint(labels)
        if not (np.isfinite(labels).all() and np.array_equal(whole, labels) and np.abs(whole).max(initial=0) < 2**31):
            raise DataError(f"{path}: its label values are not whole numbers")
        labels = whole.astype(np.int32)
    return np.ascontiguousarray(labels)


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
        shown = ", ".join(str(value) for value in unknown[:8]) + (", …" if len(unknown) > 8 else "")
        raise DataError(f"{path}: unknown label values {shown}; known: {', '.join(map(str, classes))}")
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
        low, high = (float(value) for value in np.percentile(channel, clip))
        if not low < high:
            low, high = float(channel.min()), float(channel.max())
        np.clip(channel, low, high, out=out)
        if method == "zscore":
            mean, deviation = float(out.mean(dtype=np.float64)), float(out.std(dtype=np.float64))
        else:
            mean, deviation = low, high - low
        out -= np.float32(mean)
        out /= np.float32(deviation)
        if method != "zscore":
            np.clip(out, 0, 1, out=out)
    return scaled


def resampled_shape(shape: tuple[int, int], spacing: tuple[float, float], target: float) -> tuple[int, int]:
    """Rows and columns after resampling to `target` mm; at least one each."""
    return (max(1, round(shape[0] * spacing[0] / target)), max(1, round(shape[1] * spacing[1] / target)))


def resample_image(
    array: Float32[np.ndarray, "c d h w"], spacing: tuple[float, float, float], target: float | None
) -> tuple[Float32[np.ndarray, "c d H W"], tuple[float, float, float]]:
    """Resample each slice in its plane, linearly and without aliasing; also returns the spacing reached.

    No value leaves the range of its channel. With no target, or one that changes nothing, the array
    is returned as it is.
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
    """Resample labels in plane: each class by itself as an image, then the largest share wins."""
    shape, _ = _plan(labels.shape[-2:], spacing, target)
    if shape == labels.shape[-2:]:
        return labels
    out = np.zeros((len(labels), *shape), np.uint8)
    for start in range(0, len(labels), CHUNK):
        part = labels[start : start + CHUNK]
        best = np.zeros((len(part), *shape), np.float32)
        for value in np.unique(part).tolist():
            share = _interpolate((part == value).astype(np.float32)[None], shape)[0]
            won = share > best
            best[won] = share[won]
            out[start : start + CHUNK][won] = value
    return out


def _plan(
    shape: tuple[int, ...], spacing: tuple[float, float, float], target: float | None
) -> tuple[tuple[int, int], tuple[float, float, float]]:
    old = (shape[0], shape[1])
    if target is None:
        return old, spacing
    new = resampled_shape(old, spacing[1:], target)
    return new, (spacing[0], old[0] * spacing[1] / new[0], old[1] * spacing[2] / new[1])


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
    """Write labels on the source's own grid, in the source's orientation, geometry and (by `path`) format.

    Raises:
        WriteError: the file cannot be written.
        ValueError: the labels do not have the shape of the geometry.
    """
    if labels.shape != geometry.shape:
        raise ValueError(f"labels have the shape {labels.shape}; the source has {geometry.shape}")
    highest = int(labels.max(initial=0))
    kind = np.uint8 if highest < 256 else np.uint16 if highest < 65536 else np.int32
    turned = np.flip(labels, [axis for axis in range(3) if geometry.flips[axis]])
    array = np.ascontiguousarray(turned.transpose(np.argsort(geometry.axes)), kind)
    image = sitk.GetImageFromArray(array[0] if len(geometry.size) == 2 else array)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    try:
        sitk.WriteImage(image, str(path), useCompression=not path.name.lower().endswith((".nii", ".bmp")))
    except RuntimeError as error:
        raise write_error(path, OSError(_reason(error))) from error


def _suffix(path: Path) -> str:
    suffix = next((suffix for suffix in IMAGE_IO if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise DataError(f"{path}: not a known image format; known: {', '.join(IMAGE_IO)}")
    return suffix


def _read(path: Path) -> sitk.Image:
    """Read with SimpleITK, which is told the format, so that no other reader tries its luck."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO(IMAGE_IO[_suffix(path)])
    sitk.ProcessObject.GlobalWarningDisplayOff()
    with readable(path) as file:
        reader.SetFileName(str(file))
        try:
            image = reader.Execute()
        except RuntimeError as error:
            raise DataError(f"{path}: cannot be read ({_reason(error)})") from error
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise DataError(f"{path}: {image.GetNumberOfComponentsPerPixel()} values a voxel (colour?); one is needed")
    if image.GetDimension() > 4:
        raise DataError(f"{path}: a {image.GetDimension()}-D image; at most 4 are supported")
    return image


def _reason(error: RuntimeError) -> str:
    """The last line of ITK's long message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else "unknown reason").removeprefix("ITK ERROR: ")[:200]


def _turned(path: Path, image: sitk.Image, like: Geometry | None = None) -> tuple[np.ndarray, Geometry]:
    """The array (c, d, h, w) in the common orientation, or turned as `like` was, and its geometry."""
    dimension, rank = image.GetDimension(), min(image.GetDimension(), 3)
    array: np.ndarray = sitk.GetArrayFromImage(image)
    array = array[None, None] if dimension == 2 else array[None] if dimension == 3 else array
    matrix = np.array(image.GetDirection()).reshape(dimension, dimension)[:rank, :rank]
    spacing = image.GetSpacing()[:rank]
    if not all(math.isfinite(value) and value > 0 for value in spacing):
        raise DataError(f"{path}: its spacing is {spacing}; it has to be above 0 mm: correct the file's header")
    if not np.allclose(matrix.T @ matrix, np.eye(rank), atol=1e-3):
        raise DataError(f"{path}: its axes are not at right angles; resample it to a grid that is")
    axes, flips = (like.axes, like.flips) if like else _orientation(matrix, spacing, image.GetSize()[:rank])
    size, origin = image.GetSize()[:rank], image.GetOrigin()[:rank]
    direction = tuple(float(value) for value in matrix.ravel())
    geometry = Geometry(size, spacing, origin, direction, _suffix(path), axes, flips)
    turned = array.transpose(0, *(axis + 1 for axis in axes))
    return np.flip(turned, [axis + 1 for axis in range(3) if flips[axis]]), geometry


def _orientation(
    matrix: Float[np.ndarray, "r r"], spacing: Sequence[float], size: Sequence[int]
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Which array axes (z, y, x) are slices, rows and columns, and which of them run the other way."""
    if len(spacing) == 2:
        return (0, 1, 2), (False, False, False)
    directions = [matrix[:, axis] for axis in range(3)]  # along x, y, z of the file
    coarse = sorted(range(3), key=lambda axis: spacing[axis])
    flat = [axis for axis in range(3) if size[axis] == 1]
    if len(flat) == 1:
        slices = flat[0]
    elif spacing[coarse[2]] >= COARSER * spacing[coarse[1]]:
        slices = coarse[2]
    else:
        slices = max(range(3), key=lambda axis: abs(directions[axis][2]))
    plane = [axis for axis in (1, 0, 2) if axis != slices]
    rows = max(plane, key=lambda axis: abs(float(directions[axis] @ ROW_DIRECTION)))
    columns = next(axis for axis in plane if axis != rows)
    wanted = ((slices, SLICE_DIRECTION), (rows, ROW_DIRECTION), (columns, COLUMN_DIRECTION))
    flips = [float(directions[axis] @ direction) < 0 for axis, direction in wanted]
    return (2 - slices, 2 - rows, 2 - columns), (flips[0], flips[1], flips[2])


def _check_same_grid(path: Path, found: Geometry, other: Path | None, expected: Geometry) -> None:
    name = str(other) if other else "its image"
    if found.size != expected.size:
        raise DataError(
            f"{path}: its size is {' x '.join(map(str, found.size))}, that of {name} {' x '.join(map(str, expected.size))}"
        )
    apart = float(np.abs(_corners(found) - _corners(expected)).max())
    if apart > TOLERANCE * min(expected.spacing):
        raise DataError(
            f"{path}: lies {apart:.3g} mm apart from {name} (origin, spacing or direction differ); correct its header"
        )


def _corners(geometry: Geometry) -> Float[np.ndarray, "k r"]:
    rank = len(geometry.size)
    steps = np.array(geometry.direction).reshape(rank, rank) * np.array(geometry.spacing)
    ends = [np.array([0, n - 1]) for n in geometry.size]
    index = np.stack([axis.ravel() for axis in np.meshgrid(*ends, indexing="ij")], axis=1)
    return np.array(geometry.origin) + index @ steps.T
