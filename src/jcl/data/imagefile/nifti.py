"""NIfTI files: a packed one is unpacked in memory, its checksum and length verified; headers and voxels are checked."""

import math
import struct
import zlib
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8

from jcl.data.imagefile.claims import PACKED, check_claim, check_length, check_spacing, check_voxels, refuse_packed
from jcl.data.imagefile.contents import check_contents
from jcl.errors import DataError
from jcl.files import read_error

__all__ = ["NIFTI_BYTES", "check_nifti", "plain_voxels", "read_nifti", "unpack_nifti", "without_place"]

CHUNK = 1 << 20
PACKED_CHUNK = 1 << 18

NIFTI_BYTES = 352
"""Of the header, with the mark of extensions."""

NIFTI_FLOATS = {16: "f4", 64: "f8"}
NIFTI_PLAIN = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
"""Kinds of voxels that are read here."""

NIFTI_SCALED = (2, 4, 16, 256, 512)
"""Those that are scaled here: each of their values is a float32."""

NIFTI_BITS = {
    2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64, 1536: 128,
    1792: 128, 2048: 256, 2304: 32,
}  # fmt: skip
"""Bits of a voxel of each kind."""

EPSILON = 2.0**-52
"""A slope or intercept so near to 0 or 1 is taken for it."""

RESCALED = 1 << 14
"""Values that are scaled at a time, which a core's cache holds."""


def check_nifti(path: Path) -> None:
    """Check header, length and voxels of a .nii.

    Raises:
        DataError: see `readable`.
    """
    with path.open("rb") as file:
        header = file.read(NIFTI_BYTES)
        check_length(path, _nifti_bytes(path, header), path.stat().st_size)
        file.seek(_start(header))
        _check_finite(path, header, iter(lambda: file.read(CHUNK), b""))


def unpack_nifti(path: Path) -> UInt8[np.ndarray, " n"]:
    """What is in a .nii.gz, all of it checked; what follows the voxels is left out.

    Raises:
        DataError: see `readable`.
    """
    try:
        header, content = _unpack_whole(path)
    except OSError as error:
        raise read_error(path, error) from error
    _check_finite(path, header, _parts(content, _start(header)))
    return content


def read_nifti(path: Path) -> UInt8[np.ndarray, " n"]:
    """What is in a .nii or .nii.gz, all of it checked; what follows the voxels is left out.

    Raises:
        DataError: see `readable`.
    """
    if path.name.lower().endswith(".gz"):
        return unpack_nifti(path)
    check_contents(path, ".nii")
    try:
        with path.open("rb") as file:
            header = file.read(NIFTI_BYTES)
            needed = _nifti_bytes(path, header)
            check_length(path, needed, path.stat().st_size)
            file.seek(0)
            content = np.fromfile(file, np.uint8, needed)
    except OSError as error:
        raise read_error(path, error) from error
    check_length(path, needed, len(content))
    _check_finite(path, header, _parts(content, _start(header)))
    return content


def _parts(content: UInt8[np.ndarray, " n"], start: int) -> Iterator[UInt8[np.ndarray, " n"]]:
    return (content[at : at + CHUNK] for at in range(start, len(content), CHUNK))


def without_place(content: UInt8[np.ndarray, " n"]) -> None:
    """Replace, in the header, the statements of where the voxels lie by a plain one that SimpleITK takes."""
    order = _order(content[:4].tobytes())
    struct.pack_into(f"{order}f", content.data, 76, 1.0)
    struct.pack_into(f"{order}2h6f", content.data, 252, 1, 0, 0, 0, 0, 0, 0, 0)


def plain_voxels(content: UInt8[np.ndarray, " n"]) -> Shaped[np.ndarray, " v"] | None:
    """The voxels of an unpacked NIfTI file in their order there, scaled as its header says.

    They are those that SimpleITK gives, to the last bit; None where only SimpleITK reads the file: of another byte
    order, with extensions, with voxels of a rarer kind, or of more than 16 bits and scaled.
    """
    header = content[:NIFTI_BYTES].tobytes()
    if len(header) < NIFTI_BYTES or header[:4] != struct.pack("<i", 348) or header[344:] != b"n+1\0" + bytes(4):
        return None
    number, bits = struct.unpack_from("<2h", header, 70)
    kind = np.dtype(NIFTI_PLAIN.get(number, "V1")).newbyteorder("<")
    start, slope, intercept = struct.unpack_from("<3f", header, 108)
    if number not in NIFTI_PLAIN or bits != 8 * kind.itemsize or start != NIFTI_BYTES:
        return None
    stored = content[NIFTI_BYTES:].view(kind)
    slope = slope if abs(slope) > EPSILON else 1.0  # as ITK has it, which adds the intercept even so
    if abs(slope - 1) <= EPSILON and abs(intercept) <= EPSILON:
        return stored
    return _rescaled(stored, slope, intercept) if number in NIFTI_SCALED else None


def _rescaled(stored: Shaped[np.ndarray, " v"], slope: float, intercept: float) -> Shaped[np.ndarray, " v"]:
    scaled = np.empty(stored.shape, np.float32)
    with np.errstate(over="ignore"):  # what becomes infinite is reported by who reads it
        for at in range(0, len(stored), RESCALED):
            part = stored[at : at + RESCALED].astype(np.float64)
            part *= slope
            part += intercept
            scaled[at : at + RESCALED] = part
    return scaled


def _unpack_whole(path: Path) -> tuple[bytes, UInt8[np.ndarray, " n"]]:
    """The header, and as many bytes as it claims; those after them are unpacked, and so checked, but not kept."""
    check_contents(path, ".nii.gz")
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
    check_claim(path, needed, path.stat().st_size)
    content = np.empty(needed, np.uint8)
    content[:found] = np.frombuffer(start[:needed], np.uint8)
    for chunk in chunks:
        if found < needed:
            content[found : found + len(chunk)] = np.frombuffer(chunk[: needed - found], np.uint8)
        found += len(chunk)
    check_length(path, needed, found)
    return start[:NIFTI_BYTES], content


def _unpack(path: Path) -> Generator[bytes]:
    """What is in a gzip file, a piece at a time; zlib compares checksum and length of each of its members."""
    try:
        with path.open("rb", buffering=0) as file:
            packed = file.read(PACKED_CHUNK)
            while packed:
                unpacker = zlib.decompressobj(31)
                while not unpacker.eof:
                    if not packed:
                        refuse_packed(path, "its end is missing")
                    yield unpacker.decompress(packed, CHUNK)
                    packed = unpacker.unconsumed_tail or (b"" if unpacker.eof else file.read(PACKED_CHUNK))
                packed = unpacker.unused_data.lstrip(b"\0")  # zeros may fill up a block of the medium
                while not packed and (more := file.read(PACKED_CHUNK)):
                    packed = more.lstrip(b"\0")
    except zlib.error:
        refuse_packed(path, PACKED)


def _nifti_bytes(path: Path, header: bytes) -> int:
    """Bytes that a NIfTI file needs by its header, which is checked on the way."""
    if len(header) < 348:
        raise DataError(f"{path}: not a NIfTI file (too short)")
    order = _order(header)
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
    _check_values(path, header, order, bits)
    check_spacing(path, spacing[: min(rank, 3)])
    if not math.isfinite(start) or not 0 <= start < 1 << 40:
        raise DataError(f"{path}: its NIfTI header is corrupt (data offset {start})")
    voxels = math.prod(dims[:rank])
    check_voxels(path, voxels, bits / 8)
    return max(348, int(start) + voxels * bits // 8)  # voxels that are said to lie within the header do not end it


def _check_values(path: Path, header: bytes, order: str, bits: int) -> None:
    """What is said twice of the voxels' values has to be said alike: readers differ in which they believe."""
    kind = struct.unpack_from(order + "h", header, 70)[0]
    slope, intercept = struct.unpack_from(order + "2f", header, 112)
    if (known := NIFTI_BITS.get(kind, bits)) != bits:
        raise DataError(f"{path}: its header says datatype {kind}, of {known} bits, and bitpix {bits}; correct it")
    if slope == 0 and math.isfinite(intercept) and intercept != 0:
        raise DataError(f"{path}: its header says scl_slope 0 (no scaling) and scl_inter {intercept:g}; correct it")


def _order(header: bytes) -> str:
    """Byte order of a header of NIfTI 1 or 2, as `struct` has it."""
    return "<" if header[:4] in (struct.pack("<i", size) for size in (348, 540)) else ">"


def _start(header: bytes) -> int:
    """Where the voxels begin."""
    return int(struct.unpack_from(_order(header) + "f", header, 108)[0])


def _check_finite(path: Path, header: bytes, chunks: Iterable[bytes | UInt8[np.ndarray, " n"]]) -> None:
    """Voxels, scale and position have to be finite: the reader takes each value that is not for 0."""
    order = _order(header)
    kind = NIFTI_FLOATS.get(struct.unpack_from(order + "h", header, 70)[0])
    quaternion, affine = struct.unpack_from(order + "hh", header, 252)
    fields = struct.unpack_from(order + "2f", header, 112)
    fields += struct.unpack_from(order + "6f", header, 256) if quaternion > 0 else ()
    fields += struct.unpack_from(order + "12f", header, 280) if affine > 0 else ()
    if not all(math.isfinite(value) for value in fields):
        raise DataError(f"{path}: its header says that scale or position is NaN or infinite; correct it")
    if kind is None:
        return
    bad, size = 0, np.dtype(kind).itemsize
    for chunk in chunks:
        values = np.frombuffer(chunk, f"{order}{kind}", len(chunk) // size)
        bad += int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise DataError(f"{path}: {bad} voxels are NaN or infinite; correct them or leave the file out")
