"""Image files are checked here, byte by byte where needed, before SimpleITK may read them.

Readers accept most single-byte flips and many truncations of compressed files without a word, take
a wrong spacing for 1, and allocate whatever a header claims. So: a .nii.gz is unpacked by us, with
its checksum and length verified; headers of .nrrd and .mha are parsed by rules, line by line, and their
compressed part is run through its checksum; and no file may claim more voxels than its bytes can
hold, or than one scan may take memory for (`budget`).
"""

import struct
import tempfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jcl.data.imagefile.budget import check_memory
from jcl.data.imagefile.claims import (
    MAX_VOXELS,
    check_sizes,
    check_square,
    refuse_packed,
)
from jcl.data.imagefile.contents import check_contents
from jcl.data.imagefile.metaimage import check_meta, voxel_file
from jcl.data.imagefile.nifti import (
    NIFTI_BYTES,
    check_nifti,
    plain_voxels,
    read_nifti,
    unpack_nifti,
    without_place,
)
from jcl.data.imagefile.nifti_label import write_nifti_label, write_nifti_map
from jcl.data.imagefile.nifti_place import NiftiPlace, nifti_place
from jcl.data.imagefile.nrrd import check_nrrd
from jcl.errors import DataError
from jcl.files import read_error, write_error

__all__ = [
    "MAX_VOXELS",
    "NIFTI_BYTES",
    "NiftiPlace",
    "check_memory",
    "check_square",
    "nifti_place",
    "plain_voxels",
    "read_nifti",
    "readable",
    "voxel_file",
    "without_place",
    "write_nifti_label",
    "write_nifti_map",
    "written",
]

GREY_ALPHA = 4
"""Of the colour types of PNG, the one that cannot be read."""

JPEG_SCAN = 0xDA
JPEG_FRAMES = (0xC0, 0xC1, 0xC2)
"""Start of a frame: baseline, extended and progressive."""


@contextmanager
def readable(path: Path) -> Generator[Path]:
    """A path at which SimpleITK may read the image; a .nii.gz is unpacked to a temporary file for as long.

    Raises:
        DataError: the file is missing, truncated, corrupt, not what its name says, or its header
            claims more voxels than it holds or a spacing that is not above 0.
        WriteError: there is no room for the temporary file.
    """
    if not path.name.lower().endswith(".nii.gz"):
        _check(path)
        yield path
        return
    with written(unpack_nifti(path)) as unpacked:
        yield unpacked


@contextmanager
def written(content: UInt8[np.ndarray, " n"]) -> Generator[Path]:
    """A temporary .nii with this content.

    Raises:
        WriteError: there is no room for it.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="jcl-", ignore_cleanup_errors=True)
    except OSError as error:
        raise write_error(Path(tempfile.gettempdir()), error) from error
    with folder as name:
        path = Path(name, "volume.nii")
        try:
            path.write_bytes(content.data)
        except OSError as error:
            raise write_error(path, error) from error
        yield path


def _check(path: Path) -> None:
    checks = {
        ".nii": check_nifti, ".nrrd": check_nrrd, ".mha": check_meta, ".mhd": check_meta, ".png": _check_png,
        ".jpg": _check_jpeg, ".jpeg": _check_jpeg,
    }  # fmt: skip
    check_contents(path, path.suffix.lower())
    try:
        if check := checks.get(path.suffix.lower()):
            check(path)
    except OSError as error:
        raise read_error(path, error) from error


def _check_png(path: Path) -> None:
    """Check each chunk's CRC, to the end mark, and the size that the first chunk claims."""
    with path.open("rb") as file:
        if file.read(8) != b"\x89PNG\r\n\x1a\n":
            raise DataError(f"{path}: not a PNG file")
        kind = b""
        while kind != b"IEND":
            head = file.read(8)
            if len(head) < 8:
                refuse_packed(path, "its end is missing")
            length, kind = struct.unpack(">I4s", head)
            body = file.read(min(length, path.stat().st_size))
            if struct.pack(">I", zlib.crc32(kind + body)) != file.read(4):
                refuse_packed(path, "a checksum does not fit")
            if kind == b"IHDR" and length == 13:
                if body[9] == GREY_ALPHA:
                    raise DataError(f"{path}: has an alpha channel (grey with transparency); save it without")
                check_sizes(path, struct.unpack_from(">II", body), path.stat().st_size)


def _check_jpeg(path: Path) -> None:
    """Check the size that the frame header claims, and that the end mark is there: JPEG has no checksum."""
    data = path.read_bytes()
    place, sizes = 2, ()
    if not data.startswith(b"\xff\xd8\xff"):
        raise DataError(f"{path}: not a JPEG file")
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != JPEG_SCAN:
        marker, length = struct.unpack_from(">xBH", data, place)
        if marker in JPEG_FRAMES and place + 10 <= len(data):
            sizes = struct.unpack_from(">HHB", data, place + 5)
        place += 2 + length
    if data.find(b"\xff\xd9", place) < 0:
        refuse_packed(path, "its end is missing")
    check_sizes(path, sizes, len(data))
