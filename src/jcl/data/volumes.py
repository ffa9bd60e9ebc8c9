"""Volumes: read, brought to one orientation, scaled, resampled, and written back: the only image I/O."""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from jaxtyping import Float, Float32, Integer, UInt8

from jcl.data.colours import COLOURS, WITH_ALPHA, brightness, plain_channels
from jcl.data.geometry import Geometry, check_same_grid, same_grid
from jcl.data.grids import Grid, read_grid, reason_of
from jcl.data.imagefile import readable, write_nifti_label, write_nifti_map
from jcl.data.label_values import as_label_type, whole_values
from jcl.data.sources import LabelSource, SliceFiles, Source, files_of, suffix_of
from jcl.errors import DataError
from jcl.files import write_error

__all__ = [
    "Geometry",
    "Volume",
    "label_values",
    "map_labels",
    "read_image",
    "read_label",
    "read_scan",
    "write_label",
    "write_map",
]

NIFTI = (".nii", ".nii.gz")


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


def read_scan(sources: Sequence[Source], preparation: Mapping[str, Any]) -> Volume:
    """`read_image` with the channels, or in grey, as a preparation has it."""
    return read_image(sources, channels=preparation["channels"], grey=preparation.get("grey", False))


def read_image(sources: Sequence[Source], *, channels: int = 1, grey: bool = False) -> Volume:
    """Read a volume and turn it to the common orientation; voxels are moved, never interpolated.

    Args:
        sources: one per channel (all on one grid), or a single one whose channels are its fourth axis or
            its colours. A DICOM series is a stack. A 2-D image is a volume of one slice.
        channels: how many channels there have to be.
        grey: of a picture in colour take the brightness.

    Raises:
        DataError: a file cannot be read, has another number of channels, has voxels that are not
            finite, or is constant; the message names it.

    Warns:
        DataNote: a header makes two statements that differ; the message says which was taken.
    """
    parts: list[Float32[np.ndarray, "c d h w"]] = []
    geometry: Geometry | None = None
    colour = False
    for source in sources:
        wanted = channels if len(sources) == 1 else 1
        grid = read_grid(source, wanted, copy=False)
        voxels = plain_channels(grid.array, wanted) if grid.colour else grid.array
        if grey and grid.colour and len(voxels) == COLOURS:
            voxels = brightness(voxels)
        found = grid.geometry(source)
        if geometry is not None:
            check_same_grid(source, found, files_of(sources[0])[0].name, geometry)
        geometry, colour = geometry or found, grid.colour
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is reported below
            array = np.array(found.turn(voxels), np.float32, order="C")
        whole = np.issubdtype(voxels.dtype, np.integer)
        del grid, voxels  # a second volume
        if not whole and (bad := np.count_nonzero(~np.isfinite(array))):
            raise DataError(f"{source}: {bad} voxels are NaN or infinite; correct them or leave the file out")
        parts.append(array)
    if geometry is None or (len(sources) > 1 and any(len(part) > 1 for part in parts)):
        raise DataError(f"{sources[0] if sources else 'image'}: one 3-D file a channel is needed, or a single 4-D one")
    array = parts[0] if len(parts) == 1 else np.concatenate(parts)
    _check_channels(sources, array, channels, colour)
    return Volume(array, geometry.turned_spacing, geometry)


def _check_channels(
    sources: Sequence[Source], array: Float32[np.ndarray, "c d h w"], channels: int, colour: bool
) -> None:
    if len(array) != channels:
        alpha = ", transparency among them" if len(array) == WITH_ALPHA else ""
        several = f"colour ({len(array)} values per pixel{alpha})" if colour else f"4-D ({len(array)} volumes)"
        what = several if len(array) > 1 else "a single volume"
        remedy = (
            f"give --channels {len(array)}{' or --grey' if colour else ''}, or take one of them"
            if channels == 1
            else "complete it, or give --channels 1"
        )
        raise DataError(f"{sources[0]}: {what}, but {channels} wanted; {remedy}")
    for index, channel in enumerate(array):
        first = channel.flat[0]
        if all((plane == first).all() for plane in channel):  # the first plane decides for most
            source = sources[min(index, len(sources) - 1)]
            raise DataError(f"{source}: all voxels are {first:g}; leave it out")


def read_label(source: Source, like: Volume) -> Integer[np.ndarray, "d h w"]:
    """Read the labels of `like`, turned as it is. The values are those of the file.

    The file may hold the same voxels in another order of its axes than the image's file does.

    Raises:
        DataError: the file cannot be read, has another shape or position than the image, or a value
            that is not a whole number (see `jcl.data.label_values`).

    Warns:
        DataNote: as `read_image`.
    """
    if isinstance(source, SliceFiles):
        array = _read_pictures(source, like.geometry)
        return np.ascontiguousarray(like.geometry.turn(array))
    grid = _read_labels(source)
    found = grid.geometry(source, like.geometry)
    if not same_grid(found, like.geometry):
        found = grid.geometry(source)
        check_same_grid(source, found, "its image", like.geometry)
    return np.ascontiguousarray(whole_values(source, found.turn(grid.array)))


def _read_labels(source: Source) -> Grid:
    """The voxels of a label; of a picture the indices into its palette, or the greys that it has as colours."""
    grid = read_grid(source, labels=True)
    return replace(grid, array=plain_channels(grid.array, 1)) if grid.colour else grid


def label_values(source: Source) -> tuple[int, ...]:
    """The values in a label, rising.

    Raises:
        DataError: as `read_label`.
    """
    found: set[int] = set()
    for path in files_of(source):
        labels = whole_values(path, _read_labels(path).array)
        structures = labels[labels != 0]
        found.update(np.unique(structures).tolist(), [0] if structures.size < labels.size else [])
    return tuple(sorted(found))


def _read_pictures(stack: SliceFiles, like: Geometry) -> Integer[np.ndarray, "z y x"]:
    """Pictures that are the slices of a label, on the grid of the image that they belong to."""
    size = like.size
    if len(stack.files) != size[2]:
        raise DataError(f"{stack}: {len(stack.files)} label slices, but its image has {size[2]}; complete them")
    slices: list[Integer[np.ndarray, "y x"]] = []
    for path in stack.files:
        picture = whole_values(path, _read_labels(path).array)
        if picture.shape != (1, size[1], size[0]):
            shape = " x ".join(map(str, picture.shape[:0:-1]))
            raise DataError(f"{path}: its size is {shape}, that of its image's slices is {size[0]} x {size[1]}")
        slices.append(picture[0])
    return np.stack(slices)


def map_labels(
    labels: Integer[np.ndarray, "d h w"], classes: Mapping[int, int], *, other: str, path: LabelSource
) -> UInt8[np.ndarray, "d h w"]:
    """Label values of a file as classes of a store; what is not in `classes` and not 0 is `other`.

    Raises:
        DataError: there are other values, and `other` is not `background`.
    """
    # Structures fill a small part of most volumes, and sorting, which finds the values, takes long.
    places = np.flatnonzero(labels != 0)
    found = labels.reshape(-1)[places]
    values = np.unique(found)
    targets = np.array([classes.get(value, 0) for value in values.tolist()], np.uint8)
    mapped = np.full(labels.shape, classes.get(0, 0), np.uint8)
    mapped.reshape(-1)[places] = targets[np.searchsorted(values, found)] if values.size else 0
    unknown = [value for value in values.tolist() if value not in classes]
    if unknown and other != "background":
        shown = ", ".join(str(value) for value in unknown[:8]) + (", ..." if len(unknown) > 8 else "")
        known = ", ".join(map(str, classes)) or "none"
        raise DataError(f"{path}: unknown label values {shown}; known are {known}; name them, or correct the label")
    return mapped


def write_label(path: Path, labels: Integer[np.ndarray, "d h w"], geometry: Geometry) -> None:
    """Write labels on the source's own grid, in its orientation and geometry; `path` decides the format.

    The file gets its name when it is whole. `geometry.suffix` is the format of the source.

    A NIfTI file that belongs to a NIfTI scan has the header of the scan, both forms of its place with their codes.

    Raises:
        DataError: the format cannot hold a label value.
        WriteError: the disk is full, or the file cannot be written.
        ValueError: the labels do not have the shape of the geometry.
    """
    if labels.shape != geometry.shape:
        raise ValueError(f"labels have the shape {labels.shape}; the source has {geometry.shape}")
    array = np.ascontiguousarray(geometry.turn_back(as_label_type(path, labels)))
    nifti = geometry.nifti if suffix_of(path) in NIFTI else None

    def write(file: Path) -> None:
        if nifti:
            write_nifti_label(file, array, nifti.header)
        else:
            sitk.WriteImage(_image(array, geometry), str(file), useCompression=suffix_of(path) != ".nii")

    _write_whole(path, write)


def write_map(
    path: Path, values: Float[np.ndarray, "d h w"] | Float[np.ndarray, "k d h w"], geometry: Geometry
) -> None:
    """Write a value for each voxel (or k of them, as a fourth axis) as NIfTI in float32, else as `write_label`.

    A picture is a volume of one slice.

    Raises:
        WriteError: the disk is full, or the file cannot be written.
        ValueError: the values do not have the shape of the geometry, or the file's name is not that of NIfTI.
    """
    if values.shape[-3:] != geometry.shape or suffix_of(path) not in NIFTI:
        raise ValueError(f"{path}: values of the shape {values.shape}; NIfTI of the shape {geometry.shape} is written")
    array = np.ascontiguousarray(geometry.turn_back(values), np.float32)
    nifti = geometry.nifti

    def write(file: Path) -> None:
        if nifti:
            write_nifti_map(file, array, nifti.header)
        else:
            sitk.WriteImage(_map_image(array, geometry), str(file), useCompression=suffix_of(path) != ".nii")

    _write_whole(path, write)


def _write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let a file be written under another name first, and read again: not every writer says that a disk was full."""
    try:
        with tempfile.TemporaryDirectory(f".{os.getpid()}.tmp", ".jcl.", path.parent) as folder:
            temporary = Path(folder, path.name)
            try:
                write(temporary)
                with readable(temporary):
                    pass
            except (RuntimeError, DataError) as error:
                raise OSError(reason_of(error)) from error
            # A .mhd comes with a file of voxels, which has to be there first.
            for file in sorted(Path(folder).iterdir(), key=lambda file: file.name == path.name):
                file.replace(path.parent / file.name)
    except OSError as error:
        raise write_error(path, error) from error


def _map_image(array: Float32[np.ndarray, "*k z y x"], geometry: Geometry) -> sitk.Image:
    """With a fourth axis of its own, if there are several values for each voxel."""
    image = sitk.GetImageFromArray(array, isVector=False)
    axes = np.eye(array.ndim)
    direction = np.reshape(geometry.direction, (3, 3))
    if abs(np.linalg.det(direction)) > 0.5:
        axes[:3, :3] = direction
    image.SetSpacing((*geometry.spacing, 1.0)[: array.ndim])
    image.SetOrigin((*geometry.origin, 0.0)[: array.ndim])
    image.SetDirection(axes.ravel().tolist())
    return image


def _image(array: Integer[np.ndarray, "z y x"], geometry: Geometry) -> sitk.Image:
    rank = 2 if geometry.picture else 3
    image = sitk.GetImageFromArray(array[0] if geometry.picture else array)
    image.SetSpacing(geometry.spacing[:rank])
    image.SetOrigin(geometry.origin[:rank])
    direction = np.reshape(geometry.direction, (3, 3))[:rank, :rank]
    if abs(np.linalg.det(direction)) > 0.5:  # a picture in another plane has no such place
        image.SetDirection(direction.ravel().tolist())
    return image
