"""One case's slices in one file: a zstd frame each, read at random, with the digest of every byte.

Layout (little-endian): magic, then version, slices, channels, rows, columns and bytes a pixel as
uint32; an index entry a slice (offset uint64, length uint32, first 16 bytes of the frame's sha256);
then the frames. A frame holds the pixels of one slice (channels, rows, columns), all their low bytes
first and then the high ones, which packs better: the high bytes of neighbours are nearly alike.

The sha256 of header and index is the digest of the file. Who knows it can tell any changed byte: the
index vouches for the frames.
"""

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import zstandard
from jaxtyping import UInt8, UInt16

from jcl.data.imagefile import write_error
from jcl.data.manifest import MEND
from jcl.errors import DataError

__all__ = ["Index", "Pixels", "read_index", "read_slice", "write_slices"]

Pixels = UInt8[np.ndarray, "c h w"] | UInt16[np.ndarray, "c h w"]
"""One slice as it is stored: classes, or codes of intensities."""

MAGIC = b"JCLSLICE"
VERSION = 1
HEADER = struct.Struct("<8s6I")
ENTRY = struct.Struct("<QI16s")
LEVEL = 3
"""The bytes of a store depend on it. Higher levels gain 3 % of size for 4 times the time."""


@dataclass(frozen=True)
class Index:
    """Header and index of a slice file; `shape` is (slices, channels, rows, columns)."""

    path: Path
    shape: tuple[int, int, int, int]
    width: int
    entries: bytes


def write_slices(path: Path, slices: UInt8[np.ndarray, "d c h w"] | UInt16[np.ndarray, "d c h w"]) -> str:
    """Write a slice file, synced to disk, and return its digest. The bytes depend on the slices alone.

    Raises:
        WriteError: the disk is full, or the file cannot be written.
    """
    packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True)
    frames = [_pack(packer, pixels) for pixels in slices]
    offset = HEADER.size + ENTRY.size * len(frames)
    head = bytearray(HEADER.pack(MAGIC, VERSION, *slices.shape, slices.dtype.itemsize))
    for frame in frames:
        head += ENTRY.pack(offset, len(frame), hashlib.sha256(frame).digest()[:16])
        offset += len(frame)
    try:
        with path.open("wb") as file:
            file.writelines((head, *frames))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise write_error(path, error) from error
    return hashlib.sha256(head).hexdigest()


def _pack(packer: zstandard.ZstdCompressor, pixels: np.ndarray) -> bytes:
    stream = packer.compressobj(size=pixels.nbytes)
    if pixels.dtype.itemsize == 1:
        return stream.compress(pixels.tobytes()) + stream.flush()
    low, high = (pixels & 0xFF).astype(np.uint8).tobytes(), (pixels >> 8).astype(np.uint8).tobytes()
    # A block of its own for each half, so that each gets its own code table: up to a tenth smaller.
    first = stream.compress(low) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    return first + stream.compress(high) + stream.flush()


def read_index(path: Path, file: BinaryIO, digest: str) -> Index:
    """Header and index of an open slice file.

    Raises:
        DataError: they do not have this digest, or the file is shorter or longer than they say.
    """
    header = file.read(HEADER.size)
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        raise DataError(f"{path}: damaged (no slice file); {MEND}")
    _, version, slices, channels, rows, columns, width = HEADER.unpack(header)
    length = os.fstat(file.fileno()).st_size
    if HEADER.size + ENTRY.size * slices > length:
        raise DataError(f"{path}: truncated; {MEND}")
    entries = file.read(ENTRY.size * slices)
    if hashlib.sha256(header + entries).hexdigest() != digest or version != VERSION:
        raise DataError(f"{path}: damaged (its index does not have the digest in the manifest); {MEND}")
    offset, size, _ = ENTRY.unpack_from(entries, ENTRY.size * (slices - 1))
    if offset + size != length:
        raise DataError(f"{path}: truncated or damaged ({length} bytes, not {offset + size}); {MEND}")
    return Index(path, (slices, channels, rows, columns), width, entries)


def read_slice(index: Index, file: BinaryIO, number: int, unpacker: zstandard.ZstdDecompressor) -> Pixels:
    """Pixels of one slice (channels, rows, columns), verified.

    Raises:
        DataError: the frame does not have its digest.
    """
    offset, size, digest = ENTRY.unpack_from(index.entries, ENTRY.size * number)
    file.seek(offset)
    frame = file.read(size)
    if hashlib.sha256(frame).digest()[:16] != digest:
        raise DataError(f"{index.path}: damaged (slice {number} does not have its digest); {MEND}")
    shape = index.shape[1:]
    pixels = shape[0] * shape[1] * shape[2]
    try:
        data = unpacker.decompress(frame, max_output_size=pixels * index.width)
    except zstandard.ZstdError as error:
        raise DataError(f"{index.path}: damaged (slice {number}: {error}); {MEND}") from error
    planes = np.frombuffer(data, np.uint8)
    if index.width == 1:
        return planes.reshape(shape)
    codes = np.empty((pixels, 2), np.uint8)
    codes[:, 0] = planes[:pixels]
    codes[:, 1] = planes[pixels:]
    return codes.view("<u2").reshape(shape)
