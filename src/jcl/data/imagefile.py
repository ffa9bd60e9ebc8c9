"""Image files are checked here, byte by byte where needed, before SimpleITK may read them.

Readers accept most single-byte flips and many truncations of compressed files without a word, take
a wrong spacing for 1, and allocate whatever a header claims. So: a .nii.gz is unpacked by us, with
its checksum and length verified; the compressed part of a .nrrd or .mha is run through its
checksum; and no file may claim more voxels than its bytes can hold.
"""

import errno
import math
import re
import struct
import tempfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np

from jcl.errors import DataError

__all__ = ["WriteError", "readable", "write_error"]

CHUNK = 1 << 20
PACKED_CHUNK = 1 << 18
MAX_RATIO = 1100
"""Deflate packs at most about 1032 bytes into one."""

MAX_VOXELS = 1 << 31
"""More than any scan has (1290 a side), and within what a computer can hold."""

NIFTI_BYTES = 352
NIFTI_FLOATS = {16: "f4", 64: "f8"}

JPEG_SCAN = 0xDA
JPEG_FRAMES = (0xC0, 0xC1, 0xC2)
"""Start of a frame: baseline, extended and progressive."""

META_BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4, "MET_LONG": 4,
    "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8,
}  # fmt: skip


class WriteError(DataError):
    """A file could not be written (disk full, no permission); not the fault of any case."""


def write_error(path: Path, error: OSError) -> WriteError:
    """The error to raise when writing `path` failed."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    mend = "; free some space and run the same command again" if full else ""
    return WriteError(f"{path}: cannot be written ({error.strerror or error}){mend}")


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
    try:
        folder = tempfile.TemporaryDirectory(prefix="jcl-", ignore_cleanup_errors=True)
    except OSError as error:
        raise write_error(Path(tempfile.gettempdir()), error) from error
    with folder as name:
        unpacked = Path(name, "volume.nii")
        try:
            _unpack_nifti(path, unpacked)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
        yield unpacked


def _check(path: Path) -> None:
    checks = {
        ".nii": _check_nifti, ".nrrd": _check_nrrd, ".mha": _check_meta, ".mhd": _check_meta, ".png": _check_png,
        ".jpg": _check_jpeg, ".jpeg": _check_jpeg,
    }  # fmt: skip
    try:
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        if check := checks.get(path.suffix.lower()):
            check(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _check_nifti(path: Path) -> None:
    with path.open("rb") as file:
        header = file.read(NIFTI_BYTES)
    _check_length(path, _nifti_bytes(path, header), path.stat().st_size)
    _check_finite(path, path, header)


def _unpack_nifti(path: Path, target: Path) -> None:
    """Unpack the whole of a .nii.gz, checksum and length verified; no more is written than the header claims."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            raise DataError(f"{path}: not gzip-compressed, though its name ends in .gz; rename or replace it")
    chunks = _unpack(path)
    start = b""
    for chunk in chunks:
        start += chunk
        if len(start) >= NIFTI_BYTES:
            break
    needed, found = _nifti_bytes(path, start), len(start)
    _check_claim(path, needed, path.stat().st_size)
    with _create(target) as out:
        _write(out, target, start[:needed])
        for chunk in chunks:
            if found < needed:
                _write(out, target, chunk[: needed - found])
            found += len(chunk)
    _check_length(path, needed, found)
    _check_finite(path, target, start)


def _unpack(path: Path) -> Generator[bytes]:
    """What is in a gzip file, a piece at a time; zlib compares checksum and length of each of its members."""
    try:
        with path.open("rb", buffering=0) as file:
            packed = file.read(PACKED_CHUNK)
            while packed:
                unpacker = zlib.decompressobj(31)
                while not unpacker.eof:
                    if not packed:
                        _refuse_packed(path, "its end is missing")
                    yield unpacker.decompress(packed, CHUNK)
                    packed = unpacker.unconsumed_tail or (b"" if unpacker.eof else file.read(PACKED_CHUNK))
                packed = unpacker.unused_data.lstrip(b"\0")  # zeros may fill up a block of the medium
                while not packed and (more := file.read(PACKED_CHUNK)):
                    packed = more.lstrip(b"\0")
    except zlib.error as error:
        _refuse_packed(path, str(error))


def _create(target: Path) -> BinaryIO:
    try:
        return target.open("wb", buffering=0)
    except OSError as error:
        raise write_error(target, error) from error


def _write(out: BinaryIO, target: Path, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[out.write(view) :]
    except OSError as error:
        raise write_error(target, error) from error


def _nifti_bytes(path: Path, header: bytes) -> int:
    """Bytes that a NIfTI file needs by its header, which is checked on the way."""
    if len(header) < 348:
        raise DataError(f"{path}: not a NIfTI file (too short)")
    order = "<" if header[:4] in (struct.pack("<i", size) for size in (348, 540)) else ">"
    size = struct.unpack_from(order + "i", header)[0]
    if size == 540:
        raise DataError(f"{path}: NIfTI version 2 cannot be read; convert it to version 1")
    if size != 348:
        raise DataError(f"{path}: not a NIfTI file")
    rank, *dims = struct.unpack_from(order + "8h", header, 40)
    bits = struct.unpack_from(order + "h", header, 72)[0]
    spacing = struct.unpack_from(order + "8f", header, 76)[1:]
    start = struct.unpack_from(order + "f", header, 108)[0]
    if not 1 <= rank <= 7 or any(n < 1 for n in dims[:rank]) or not 1 <= bits <= 256:
        raise DataError(f"{path}: its NIfTI header claims a size that cannot be ({dims[: max(0, min(rank, 7))]})")
    _check_spacing(path, spacing[: min(rank, 3)])
    if not math.isfinite(start) or not 0 <= start < 1 << 40:
        raise DataError(f"{path}: its NIfTI header is corrupt (data offset {start})")
    voxels = math.prod(dims[:rank])
    _check_voxels(path, voxels)
    return int(start) + voxels * bits // 8


def _check_finite(path: Path, data: Path, header: bytes) -> None:
    """Voxels, scale and position have to be finite: the reader takes each value that is not for 0."""
    order = "<" if header[:4] == struct.pack("<i", 348) else ">"
    kind = NIFTI_FLOATS.get(struct.unpack_from(order + "h", header, 70)[0])
    start = int(struct.unpack_from(order + "f", header, 108)[0])
    quaternion, affine = struct.unpack_from(order + "hh", header, 252)
    fields = struct.unpack_from(order + "2f", header, 112)
    fields += struct.unpack_from(order + "6f", header, 256) if quaternion > 0 else ()
    fields += struct.unpack_from(order + "12f", header, 280) if affine > 0 else ()
    if not all(math.isfinite(value) for value in fields):
        raise DataError(f"{path}: its header says that scale or position is NaN or infinite; correct it")
    if kind is None:
        return
    bad = 0
    with data.open("rb") as file:
        file.seek(start)
        while chunk := file.read(CHUNK):
            values = np.frombuffer(chunk, np.dtype(kind).newbyteorder(order), len(chunk) // np.dtype(kind).itemsize)
            bad += int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise DataError(f"{path}: {bad} voxels are NaN or infinite; mend it or leave it out")


def _check_spacing(path: Path, spacing: tuple[float, ...]) -> None:
    # Readers take a spacing of 0, below it or NaN for 1 and go on.
    if not all(math.isfinite(value) and value > 0 for value in spacing):
        shown = " x ".join(f"{value:g}" for value in spacing)
        raise DataError(f"{path}: its spacing is {shown}; it has to be above 0 mm: correct the file's header")


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
    _check_sizes(path, _numbers(path, header, r"^sizes:(.*)$") or (), path.stat().st_size)
    if spacing := _numbers(path, header, r"^spacings:(.*)$"):
        known = tuple(value for value in spacing if not math.isnan(value))
        _check_spacing(path, known if len(known) >= 3 else spacing)  # an axis of channels has none
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
    _check_sizes(path, sizes, data.stat().st_size)
    for key in ("ElementSpacing", "ElementSize"):
        if spacing := _numbers(path, header, rf"^{key}\s*=(.*)$"):
            _check_spacing(path, spacing)
    if re.search(r"^CompressedData\s*=\s*True", header, re.MULTILINE | re.IGNORECASE):
        _check_deflate(path, data, start, 15)
        return
    kind = re.search(r"^ElementType\s*=\s*(\w+)", header, re.MULTILINE)
    needed = int(math.prod(sizes) * META_BYTES.get(kind[1] if kind else "", 0))
    _check_length(path, start + needed, data.stat().st_size)


def _check_sizes(path: Path, sizes: tuple[float, ...], stored: int) -> None:
    if not sizes or not all(math.isfinite(size) and size >= 1 for size in sizes):
        raise DataError(f"{path}: its header claims no size that can be")
    _check_voxels(path, math.prod(sizes))
    _check_claim(path, math.prod(sizes), stored)


def _check_voxels(path: Path, voxels: float) -> None:
    if voxels > MAX_VOXELS:
        raise DataError(f"{path}: its header claims {voxels:.3g} voxels; at most {MAX_VOXELS:.3g} are supported")


def _check_length(path: Path, needed: int, found: int) -> None:
    if found < needed:
        raise DataError(f"{path}: truncated; its header claims {needed} bytes, it has {found}; copy it again")


def _check_claim(path: Path, needed: float, stored: int) -> None:
    if needed > stored * MAX_RATIO:
        raise DataError(f"{path}: truncated or corrupt; its header claims {needed:.0f} bytes, packed into {stored}")


def _check_png(path: Path) -> None:
    """Check each chunk's CRC, to the end mark, and the size that the first chunk claims."""
    with path.open("rb") as file:
        if file.read(8) != b"\x89PNG\r\n\x1a\n":
            raise DataError(f"{path}: not a PNG file")
        kind = b""
        while kind != b"IEND":
            head = file.read(8)
            if len(head) < 8:
                _refuse_packed(path, "its end is missing")
            length, kind = struct.unpack(">I4s", head)
            body = file.read(min(length, path.stat().st_size))
            if struct.pack(">I", zlib.crc32(kind + body)) != file.read(4):
                _refuse_packed(path, "a checksum does not fit")
            if kind == b"IHDR" and length == 13:
                _check_sizes(path, struct.unpack_from(">II", body), path.stat().st_size)


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
        _refuse_packed(path, "its end is missing")
    _check_sizes(path, sizes, len(data))


def _check_deflate(path: Path, data: Path, start: int, bits: int) -> None:
    """Run the packed voxels through their checksum, keeping nothing."""
    unpacker = zlib.decompressobj(bits)
    try:
        with data.open("rb") as file:
            file.seek(start)
            while not unpacker.eof:
                chunk = file.read(CHUNK)
                if not chunk:
                    _refuse_packed(path, "its end is missing")
                while chunk and not unpacker.eof:
                    unpacker.decompress(chunk, CHUNK)
                    chunk = unpacker.unconsumed_tail
    except zlib.error as error:
        _refuse_packed(path, str(error))


def _refuse_packed(path: Path, reason: str) -> NoReturn:
    raise DataError(f"{path}: truncated or corrupt ({reason}); copy it again from its origin")
