"""Volumes: read, brought to one orientation, scaled, resampled, and written back: the only image I/O."""

import math
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from jaxtyping import Float, Float32, Integer, UInt8

from jcl.data.geometry import Geometry, check_same_grid, orientation, same_grid
from jcl.data.imagefile import NIFTI_BYTES, plain_voxels, readable, unpack_nifti, write_error, written
from jcl.data.sources import SUFFIXES, Source, Stack, files_of, result_suffix, suffix_of
from jcl.errors import DataError

__all__ = [
    "Geometry",
    "Volume",
    "label_values",
    "map_labels",
    "read_image",
    "read_label",
    "write_label",
]

IMAGE_IO = {
    ".nii.gz": "NiftiImageIO",
    ".nii": "NiftiImageIO",
    ".nrrd": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
    ".png": "PNGImageIO",
    ".jpg": "JPEGImageIO",
    ".jpeg": "JPEGImageIO",
}

PIXELS = {
    "uint8": sitk.sitkUInt8, "int8": sitk.sitkInt8, "uint16": sitk.sitkUInt16, "int16": sitk.sitkInt16,
    "float32": sitk.sitkFloat32,
}  # fmt: skip


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


def read_image(sources: Sequence[Source], *, channels: int = 1) -> Volume:
    """Read a volume and turn it to the common orientation; voxels are moved, never interpolated.

    Args:
        sources: one a channel (all on one grid), or a single one whose channels are its fourth axis or
            its colours. A DICOM series is a stack. A 2-D image is a volume of one slice.
        channels: how many channels there have to be.

    Raises:
        DataError: a file cannot be read, has another number of channels, has voxels that are not
            finite, or is constant; the message names it.
    """
    parts: list[Float32[np.ndarray, "c d h w"]] = []
    geometry: Geometry | None = None
    colour = False
    for source in sources:
        grid = _read(source, channels if len(sources) == 1 else 1, copy=False)
        found = grid.geometry(orientation(grid.matrix, grid.spacing, grid.size), result_suffix(source))
        if geometry is not None:
            check_same_grid(source, found, files_of(sources[0])[0].name, geometry)
        geometry, colour = geometry or found, grid.colour
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is told below
            array = np.array(found.turn(grid.array), np.float32, order="C")
        whole = np.issubdtype(grid.array.dtype, np.integer)
        del grid  # a second volume
        if not whole and (bad := np.count_nonzero(~np.isfinite(array))):
            raise DataError(f"{source}: {bad} voxels are NaN or infinite; mend it or leave it out")
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
        several = f"colour ({len(array)} values a pixel)" if colour else f"4-D ({len(array)} volumes)"
        what = several if len(array) > 1 else "a single volume"
        mend = f"give --channels {len(array)}, or take one of them" if channels == 1 else "complete it or leave it out"
        raise DataError(f"{sources[0]}: {what}, but {channels} wanted; {mend}")
    for index, channel in enumerate(array):
        first = channel.flat[0]
        if all((plane == first).all() for plane in channel):  # the first plane tells of most
            source = sources[min(index, len(sources) - 1)]
            raise DataError(f"{source}: all voxels are {first:g}; leave it out")


def read_label(source: Source, like: Volume) -> Integer[np.ndarray, "d h w"]:
    """Read the labels of `like`, turned as it is. The values are those of the file.

    The file may hold the same voxels in another order of its axes than the image's file does.

    Raises:
        DataError: the file cannot be read, has another shape or position than the image, or a value
            that is no whole number.
    """
    if isinstance(source, Stack):
        array = _read_pictures(source, like.geometry)
        return np.ascontiguousarray(like.geometry.turn(array))
    grid = _read(source)
    found = grid.geometry((like.geometry.axes, like.geometry.flips), like.geometry.suffix)
    if not same_grid(found, like.geometry):
        found = grid.geometry(orientation(grid.matrix, grid.spacing, grid.size), like.geometry.suffix)
        check_same_grid(source, found, "its image", like.geometry)
    return np.ascontiguousarray(_whole(source, found.turn(grid.array)))


def label_values(source: Source) -> tuple[int, ...]:
    """The values in a label, rising.

    Raises:
        DataError: as `read_label`.
    """
    found: set[int] = set()
    for path in files_of(source):
        labels = _whole(path, _read(path).array)
        structures = labels[labels != 0]
        found.update(np.unique(structures).tolist(), [0] if structures.size < labels.size else [])
    return tuple(sorted(found))


def _whole(source: Source, array: np.ndarray) -> Integer[np.ndarray, "d h w"]:
    if len(array) != 1:
        raise DataError(f"{source}: a 4-D or colour label ({len(array)} values a voxel); one is needed")
    labels = array[0]
    if np.issubdtype(labels.dtype, np.integer):
        return labels
    if not (np.isfinite(labels).all() and np.array_equal(np.rint(labels), labels) and np.abs(labels).max() < 2**31):
        raise DataError(f"{source}: its label values are not whole numbers")
    return labels.astype(np.int32)


def _read_pictures(stack: Stack, like: Geometry) -> Integer[np.ndarray, "z y x"]:
    """Pictures that are the slices of a label, on the grid of the image that they belong to."""
    size = (*like.size, 1)[:3]
    if len(stack.files) != size[2]:
        raise DataError(f"{stack}: {len(stack.files)} label slices, but its image has {size[2]}; complete them")
    slices: list[Integer[np.ndarray, "y x"]] = []
    for path in stack.files:
        picture = _whole(path, _read(path).array)
        if picture.shape != (1, size[1], size[0]):
            shape = " x ".join(map(str, picture.shape[:0:-1]))
            raise DataError(f"{path}: its size is {shape}, that of its image's slices is {size[0]} x {size[1]}")
        slices.append(picture[0])
    return np.stack(slices)


def map_labels(
    labels: Integer[np.ndarray, "d h w"], classes: Mapping[int, int], *, other: str, path: Source
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
        raise DataError(f"{path}: unknown label values {shown}; known are {', '.join(map(str, classes)) or 'none'}")
    return mapped


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
    del array
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


@dataclass(frozen=True)
class _Grid:
    """Voxels (c, z, y, x) in the source's own order, and where they lie; a 2-D image has one z.

    The array may be the memory of `owner`.
    """

    array: np.ndarray
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    colour: bool
    matrix: Float[np.ndarray, "r r"]
    owner: sitk.Image | sitk.ImageFileReader | None = None

    def geometry(self, turning: tuple[tuple[int, int, int], tuple[bool, bool, bool]], suffix: str) -> Geometry:
        direction = tuple(float(value) for value in self.matrix.ravel())
        return Geometry(self.size, self.spacing, self.origin, direction, suffix, *turning)


def _read(source: Source, channels: int = 1, *, copy: bool = True) -> _Grid:
    if isinstance(source, Stack):
        from jcl.data.dicom.voxels import read_series  # only here: loading pydicom takes a third of a second

        array, place = read_series(source.files, channels=channels)
        matrix = np.array(place.direction).reshape(3, 3)
        return _Grid(
            array.reshape(-1, *array.shape[-3:]), place.size, place.spacing, place.origin, channels > 1, matrix
        )
    head, voxels, colour = _read_file(source, copy=copy)
    dimension, rank = head.GetDimension(), min(head.GetDimension(), 3)
    matrix = np.array(head.GetDirection()).reshape(dimension, dimension)[:rank, :rank]
    size, spacing, origin = head.GetSize()[:rank], head.GetSpacing()[:rank], head.GetOrigin()[:rank]
    if not all(math.isfinite(value) and value > 0 for value in spacing) or not np.isfinite(origin).all():
        raise DataError(f"{source}: its spacing is {spacing}, its origin {origin}; correct the file's header")
    if not np.allclose(matrix.T @ matrix, np.eye(rank), atol=1e-3):
        raise DataError(f"{source}: its axes are not at right angles; resample it to a grid that is")
    if colour:
        voxels = np.moveaxis(voxels, -1, 0)
    array = voxels.reshape(-1, *(1,) * (3 - rank), *size[::-1])
    return _Grid(array, size, spacing, origin, colour, matrix, None if copy else head)


def _read_file(path: Path, *, copy: bool) -> tuple[sitk.Image | sitk.ImageFileReader, np.ndarray, bool]:
    """What SimpleITK says of a file, its voxels as they lie there, and whether they are colours.

    SimpleITK is told the format, so that no other reader tries its luck. Of most packed NIfTI files it reads the header
    only: to write the voxels to a temporary file and to read them from it takes nearly as long as to unpack them.
    """
    reader = sitk.ImageFileReader()
    reader.SetImageIO(IMAGE_IO[_suffix(path)])
    sitk.ProcessObject.GlobalWarningDisplayOff()  # its warnings do not name the file; what they tell is checked here
    opened = readable(path)
    if _suffix(path) == ".nii.gz":
        content = unpack_nifti(path)
        if (voxels := plain_voxels(content)) is not None:
            with written(content[:NIFTI_BYTES]) as file:
                _ask(reader, reader.ReadImageInformation, path, file)
            if _is_plain(reader, voxels):
                return reader, voxels, False
        opened = written(content)
        del content, voxels
    with opened as file:
        image: sitk.Image = _ask(reader, reader.Execute, path, file)
    colour = image.GetNumberOfComponentsPerPixel() > 1
    if image.GetDimension() > 4 or (image.GetDimension() == 4 and colour):
        raise DataError(f"{path}: a {image.GetDimension()}-D image; at most 4 dimensions are supported, colours one")
    return image, sitk.GetArrayFromImage(image) if copy else sitk.GetArrayViewFromImage(image), colour


def _ask(reader: sitk.ImageFileReader, question: Callable[[], Any], path: Path, file: Path) -> Any:
    """What a reader answers of `file`, which has what `path` has."""
    reader.SetFileName(str(file))
    try:
        return question()
    except RuntimeError as error:
        raise DataError(f"{path}: cannot be read ({_reason(error).replace(str(file), path.name)})") from error


def _is_plain(reader: sitk.ImageFileReader, voxels: np.ndarray) -> bool:
    """Whether SimpleITK, too, sees so many single values of this type."""
    size, components = math.prod(reader.GetSize()), reader.GetNumberOfComponents()
    kind = PIXELS[voxels.dtype.name]
    return reader.GetDimension() <= 4 and (size, components, reader.GetPixelID()) == (len(voxels), 1, kind)


def _suffix(path: Path) -> str:
    if not suffix_of(path):
        raise DataError(f"{path}: not a known image format; known are {', '.join(SUFFIXES)}")
    return suffix_of(path)


def _reason(error: Exception) -> str:
    """The last line of ITK's long message, without the address of an object, which differs from run to run."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = re.sub(r"^(ITK ERROR: )?(\w+\(0x[0-9a-f]+\): )?", "", lines[-1] if lines else "unknown reason")
    return "".join(letter if letter.isprintable() else "?" for letter in last[:200])
