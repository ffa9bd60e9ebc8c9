"""Image files are checked here, byte by byte where needed, before SimpleITK may read them.

Readers accept most single-byte flips and many truncations of compressed files without a word, take
a wrong spacing for 1, and allocate whatever a header claims. So: a .nii.gz is unpacked by us, with
its checksum and length verified; the compressed part of a .nrrd or .mha is run through its
checksum; and no file may claim more voxels than its bytes can hold.
"""

import math
import re
import struct
import tempfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jcl.data.imagefile.claims import (
    MAX_VOXELS,
    WriteError,
    check_length,
    check_sizes,
    check_spacing,
    refuse_packed,
    write_error,
)
from jcl.data.imagefile.nifti import NIFTI_BYTES, check_nifti, plain_voxels, unpack_nifti
from jcl.errors import DataError

__all__ = [
    "MAX_VOXELS",
    "NIFTI_BYTES",
    "WriteError",
    "plain_voxels",
    "readable",
    "unpack_nifti",
    "write_error",
    "written",
]

CHUNK = 1 << 20

JPEG_SCAN = 0xDA
JPEG_FRAMES = (0xC0, 0xC1, 0xC2)
"""Start of a frame: baseline, extended and progressive."""

META_BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4, "MET_LONG": 4,
    "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8,
}  # fmt: skip


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
        ".nii": check_nifti, ".nrrd": _check_nrrd, ".mha": _check_meta, ".mhd": _check_meta, ".png": _check_png,
        ".jpg": _check_jpeg, ".jpeg": _check_jpeg,
    }  # fmt: skip
    try:
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        if check := checks.get(path.suffix.lower()):
            check(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _header(path: Path, end: bytes) -> tuple[str, int]:
    """The text header of a NRRD or MetaImage file, up to and with `end`, and its length in bytes."""
    with path.open("rb") as file:
        start = file.read(CHUNK)
    match = re.search(end, start)
    if match is None:
        raise DataError(f"{path}: its header has no end; not a {path.suffix} file, or a corrupt one")
    return start[: match.end()].decode("latin-1"), match.end()


def _numbers(path: Path, header: str, pattern: str) -> tuple[float, ...] | None:
    matches = re.findall(pattern, header, re.MULTILINE | re.IGNORECASE)
    if len(matches) > 1:
        raise DataError(f"{path}: its header says both {matches[0].strip()!r} and {matches[1].strip()!r} of one thing")
    try:
        return tuple(float(word) for word in matches[0].split()) if matches else None
    except ValueError as error:
        raise DataError(f"{path}: its header is corrupt ({error})") from error


def _check_nrrd(path: Path) -> None:
    header, start = _header(path, rb"\r?\n\r?\n")
    if not header.startswith("NRRD"):
        raise DataError(f"{path}: not a NRRD file")
    if re.search(r"^data ?file:", header, re.MULTILINE | re.IGNORECASE):
        raise DataError(f"{path}: its voxels are in another file, which is not supported; convert it to one file")
    check_sizes(path, _numbers(path, header, r"^sizes:(.*)$") or (), path.stat().st_size)
    if spacing := _numbers(path, header, r"^spacings:(.*)$"):
        known = tuple(value for value in spacing if not math.isnan(value))
        check_spacing(path, known if len(known) >= 3 else spacing)  # an axis of channels has none
    encoding = re.search(r"^encoding:\s*(\S+)", header, re.MULTILINE | re.IGNORECASE)
    if encoding and encoding[1].lower() in ("gzip", "gz"):
        _check_deflate(path, path, start, 31)


def _check_meta(path: Path) -> None:
    header, start = _header(path, rb"ElementDataFile\s*=\s*[^\n]*\n?")
    name = re.search(r"ElementDataFile\s*=\s*([^\r\n]*)", header)
    data = path
    if name and name[1].strip() != "LOCAL":
        data, start = path.parent / name[1].strip(), 0
        if data.name != name[1].strip():
            raise DataError(f"{path}: its voxels are said to be in {name[1].strip()!r}; a file beside it is needed")
        if not data.is_file():
            raise DataError(f"{data}: missing; it holds the voxels of {path.name}")
    sizes = _numbers(path, header, r"^DimSize\s*=(.*)$") or ()
    check_sizes(path, sizes, data.stat().st_size)
    for key in ("ElementSpacing", "ElementSize"):
        if spacing := _numbers(path, header, rf"^{key}\s*=(.*)$"):
            check_spacing(path, spacing)
    if re.search(r"^CompressedData\s*=\s*True", header, re.MULTILINE | re.IGNORECASE):
        _check_deflate(path, data, start, 15)
        return
    kind = re.search(r"^ElementType\s*=\s*(\w+)", header, re.MULTILINE)
    needed = int(math.prod(sizes) * META_BYTES.get(kind[1] if kind else "", 0))
    check_length(path, start + needed, data.stat().st_size)


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


def _check_deflate(path: Path, data: Path, start: int, bits: int) -> None:
    """Run the packed voxels through their checksum, keeping nothing."""
    unpacker = zlib.decompressobj(bits)
    try:
        with data.open("rb") as file:
            file.seek(start)
            while not unpacker.eof:
                chunk = file.read(CHUNK)
                if not chunk:
                    refuse_packed(path, "its end is missing")
                while chunk and not unpacker.eof:
                    unpacker.decompress(chunk, CHUNK)
                    chunk = unpacker.unconsumed_tail
    except zlib.error as error:
        refuse_packed(path, str(error))
