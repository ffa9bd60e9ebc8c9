"""Grids: the voxels of one source as they lie in its files, and where that is."""

import contextlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from jaxtyping import Float

from jcl.data.affine import Affine
from jcl.data.geometry import Geometry, orientation
from jcl.data.imagefile import (
    NIFTI_BYTES,
    NiftiPlace,
    check_square,
    nifti_place,
    palette_indices,
    plain_voxels,
    read_nifti,
    readable,
    without_place,
    written,
)
from jcl.data.sources import SUFFIXES, SliceFiles, Source, result_suffix, suffix_of
from jcl.errors import DataError

__all__ = ["Grid", "read_grid", "reason_of"]

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
    "float32": sitk.sitkFloat32, "uint32": sitk.sitkUInt32, "int32": sitk.sitkInt32, "uint64": sitk.sitkUInt64,
    "int64": sitk.sitkInt64, "float64": sitk.sitkFloat64,
}  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """Voxels (c, z, y, x) in the source's own order, and where they lie, in LPS and mm; a picture has one z.

    Attributes:
        size, spacing, origin: per axis x, y, z.
        direction: unit vectors of the axes, a column each.
        colour: whether the channels are colours.
        picture: whether the source has two dimensions.
        nifti: what the header says, if it is a NIfTI file.
        owner: of the array's memory, if it is not its own.
    """

    array: np.ndarray
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: Float[np.ndarray, "3 3"]
    colour: bool = False
    picture: bool = False
    nifti: NiftiPlace | None = None
    owner: sitk.Image | sitk.ImageFileReader | None = None

    @property
    def affine(self) -> Affine:
        """From indices x, y, z to mm."""
        own = np.eye(4)
        own[:3, :3], own[:3, 3] = self.direction * self.spacing, self.origin
        return own

    def geometry(self, source: Source, like: Geometry | None = None) -> Geometry:
        """Where the voxels lie, turned to the common orientation or as `like` is; a picture stays as it is."""
        axes, flips = (like.axes, like.flips) if like else self._turning()
        return Geometry(
            size=self.size, spacing=self.spacing, origin=self.origin,
            direction=tuple(float(value) for value in self.direction.ravel()),
            suffix=result_suffix(source), axes=axes, flips=flips, picture=self.picture, nifti=self.nifti,
        )  # fmt: skip

    def _turning(self) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
        if self.picture:
            return (0, 1, 2), (False, False, False)
        return orientation(self.direction, self.spacing, self.size)


def read_grid(source: Source, channels: int = 1, *, copy: bool = True, labels: bool = False) -> Grid:
    """Read the voxels of a source.

    Args:
        source: one file, or the files of a DICOM series.
        channels: of a series: 3 if colours are wanted.
        copy: whether the array has to be memory of its own.
        labels: whether a picture whose pixels are indices into a palette has these as its values, and not its colours.

    Raises:
        DataError: a file cannot be read, has complex values, or a place that cannot be.
    """
    if isinstance(source, SliceFiles):
        from jcl.data.dicom.voxels import read_series  # only here: loading pydicom takes a third of a second

        array, place = read_series(source.files, channels=channels)
        direction = np.array(place.direction).reshape(3, 3)
        array = array.reshape(-1, *array.shape[-3:])
        return Grid(array, place.size, place.spacing, place.origin, direction, colour=channels > 1)
    nifti: NiftiPlace | None = None
    if suffix_of(source) in (".nii", ".nii.gz"):
        head, voxels, nifti = _read_nifti(source, copy=copy)
    else:
        head, voxels = _read_image(source, readable(source), copy=copy)
    if voxels.dtype.kind == "c":
        raise DataError(f"{source}: its values are complex numbers; save their magnitude")
    if labels and suffix_of(source) == ".png" and (indices := palette_indices(source)) is not None:
        voxels, head = indices, sitk.Image(*indices.shape[::-1], sitk.sitkUInt8)
    dimension, rank = head.GetDimension(), min(head.GetDimension(), 3)
    colour = head.GetNumberOfComponentsPerPixel() > 1 if isinstance(head, sitk.Image) else False
    if dimension > 4 or (dimension == 4 and colour):
        raise DataError(f"{source}: a {dimension}-D image; at most 4 dimensions are supported, colours one")
    columns, rows, depth = (*head.GetSize()[:rank], 1)[:3]
    size = (columns, rows, depth)
    if nifti:
        spacing, origin, direction = nifti.spacing, nifti.origin, nifti.direction
    else:
        spacing, origin, direction = _place(head, rank)
        check_square(source, direction * np.array(spacing), size)
    if not all(math.isfinite(value) and value > 0 for value in spacing) or not np.isfinite(origin).all():
        raise DataError(f"{source}: its spacing is {spacing}, its origin {origin}; correct the file's header")
    if colour:
        voxels = np.moveaxis(voxels, -1, 0)
    return Grid(
        voxels.reshape(-1, *size[::-1]), size, spacing, origin, direction, colour, rank == 2, nifti,
        None if copy else head,
    )  # fmt: skip


def _place(
    head: sitk.Image | sitk.ImageFileReader, rank: int
) -> tuple[tuple[float, float, float], tuple[float, float, float], Float[np.ndarray, "3 3"]]:
    """Spacing, origin and direction as SimpleITK has them; a picture lies in the plane z = 0."""
    direction = np.eye(3)
    direction[:rank, :rank] = np.reshape(head.GetDirection(), (head.GetDimension(), -1))[:rank, :rank]
    spacing, origin = (*head.GetSpacing()[:rank], 1.0), (*head.GetOrigin()[:rank], 0.0)
    return (spacing[0], spacing[1], spacing[2]), (origin[0], origin[1], origin[2]), direction


def _read_nifti(path: Path, *, copy: bool) -> tuple[sitk.Image | sitk.ImageFileReader, np.ndarray, NiftiPlace]:
    """The voxels of a NIfTI file, and the place that its header states.

    Of most files SimpleITK reads the header only: to write the voxels to a temporary file and to read them from it
    takes nearly as long as to unpack them. What it thinks of the place is not asked for.
    """
    content = read_nifti(path)
    place = nifti_place(path, content[:NIFTI_BYTES].tobytes())
    without_place(content)
    if (voxels := plain_voxels(content)) is not None:
        reader = _reader(path)
        with written(content[:NIFTI_BYTES]) as file:
            _ask(reader, reader.ReadImageInformation, path, file)
        if _is_plain(reader, voxels):
            return reader, voxels, place
    opened = written(content)
    del content, voxels
    return *_read_image(path, opened, copy=copy), place


def _read_image(
    path: Path, opened: contextlib.AbstractContextManager[Path], *, copy: bool
) -> tuple[sitk.Image, np.ndarray]:
    reader = _reader(path)
    with opened as file:
        image: sitk.Image = _ask(reader, reader.Execute, path, file)
    return image, sitk.GetArrayFromImage(image) if copy else sitk.GetArrayViewFromImage(image)


def _reader(path: Path) -> sitk.ImageFileReader:
    """SimpleITK is given the format, so that no other reader tries its luck."""
    if not suffix_of(path):
        raise DataError(f"{path}: not a known image format; known are {', '.join(SUFFIXES)}")
    reader = sitk.ImageFileReader()
    reader.SetImageIO(IMAGE_IO[suffix_of(path)])
    sitk.ProcessObject.GlobalWarningDisplayOff()  # its warnings do not name the file; what they warn of is checked here
    return reader


def _ask(reader: sitk.ImageFileReader, question: Callable[[], Any], path: Path, file: Path) -> Any:
    """What a reader answers of `file`, which has what `path` has."""
    try:
        str(file).encode()
    except UnicodeEncodeError as error:  # the reader would end the process
        raise DataError(f"{path}: its path is not text in UTF-8, which its reader needs; rename it") from error
    reader.SetFileName(str(file))
    try:
        return question()
    except RuntimeError as error:
        raise DataError(f"{path}: cannot be read ({reason_of(error).replace(str(file), path.name)})") from error


def _is_plain(reader: sitk.ImageFileReader, voxels: np.ndarray) -> bool:
    """Whether SimpleITK, too, sees so many single values of this type."""
    size, components = math.prod(reader.GetSize()), reader.GetNumberOfComponents()
    kind = PIXELS[voxels.dtype.name]
    return reader.GetDimension() <= 4 and (size, components, reader.GetPixelID()) == (len(voxels), 1, kind)


def reason_of(error: Exception) -> str:
    """The last line of ITK's long message, without the address of an object, which differs from run to run."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = re.sub(r"^(ITK ERROR: )?(\w+\(0x[0-9a-f]+\): )?", "", lines[-1] if lines else "unknown reason")
    return "".join(letter if letter.isprintable() else "?" for letter in last[:200])
