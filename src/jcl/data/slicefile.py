"""One case's slices in one file: a zstd frame each, read at random, with the digest of every byte.

Layout (little-endian): magic, then version, slices, channels, rows, columns and bytes per pixel as
uint32; an index entry per slice (offset uint64, length uint32, first 16 bytes of the frame's sha256);
then the frames. A frame holds the pixels of one slice (channels, rows, columns), all their low bytes
first and then the high ones, which packs better: the high bytes of neighbours are nearly alike.

The sha256 of header and index is the digest of the file. Who knows it can detect any changed byte: the
index vouches for the frames.
"""

import hashlib
import os
import struct
import threading
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import zstandard
from jaxtyping import UInt8, UInt16

from jcl.data.manifest import REPAIR_HINT
from jcl.errors import DataError
from jcl.files import check_regular, read_error, write_error

__all__ = ["Pixels", "SliceFile", "write_slices"]

Pixels = UInt8[np.ndarray, "c h w"] | UInt16[np.ndarray, "c h w"]
"""One slice as it is stored: classes, or codes of intensities."""

MAGIC = b"JCLSLICE"
VERSION = 1
HEADER = struct.Struct("<8s6I")
ENTRY = struct.Struct("<QI16s")
LEVEL = 1
"""The bytes of a store depend on it. Higher levels hardly make it smaller, and take longer."""


def write_slices(path: Path, slices: UInt8[np.ndarray, "d c h w"] | UInt16[np.ndarray, "d c h w"]) -> str:
    """Write a slice file and return its digest. The bytes depend on the slices alone; `store` syncs them to the disk.

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
    except OSError as error:
        raise write_error(path, error) from error
    return hashlib.sha256(head).hexdigest()


def _pack(packer: zstandard.ZstdCompressor, pixels: np.ndarray) -> bytes:
    stream = packer.compressobj(size=pixels.nbytes)
    if pixels.dtype.itemsize == 1:
        return stream.compress(np.ascontiguousarray(pixels).data) + stream.flush()
    # A block of its own for each half, so that each gets its own code table: up to a tenth smaller.
    first = stream.compress(pixels.astype(np.uint8).data) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    return first + stream.compress((pixels >> 8).astype(np.uint8).data) + stream.flush()


class SliceFile:
    """A slice file, opened; threads may share it. It is closed when nobody uses it any more.

    Attributes:
        path: the file.
        shape: (slices, channels, rows, columns).

    Raises:
        DataError: the file is missing, a pipe or device, shorter or longer than it says, or its index does not have
            `digest`.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        check_regular(path)
        try:
            self._file = path.open("rb")
            self.shape, self._width, self._entries = _read_index(path, self._file, digest)
        except OSError as error:
            raise _unreadable(path, error) from error

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def read(self, number: int) -> Pixels:
        """Pixels of one slice (channels, rows, columns), verified.

        Only reading the file is done by one thread at a time; hashing and unpacking take far longer.

        Raises:
            DataError: the file cannot be read, or the slice does not have its digest.
        """
        offset, size, digest = ENTRY.unpack_from(self._entries, ENTRY.size * number)
        try:
            with self._lock:
                self._file.seek(offset)
                frame = self._file.read(size)
        except OSError as error:
            raise _unreadable(self.path, error) from error
        if hashlib.sha256(frame).digest()[:16] != digest:
            raise DataError(f"{self.path}: damaged (slice {number} does not have its digest); {REPAIR_HINT}")
        shape = self.shape[1:]
        pixels = shape[0] * shape[1] * shape[2]
        try:
            data = _unpacker().decompress(frame, max_output_size=pixels * self._width)
        except zstandard.ZstdError as error:
            raise DataError(f"{self.path}: damaged (slice {number} cannot be unpacked); {REPAIR_HINT}") from error
        planes = np.frombuffer(data, np.uint8)
        if self._width == 1:
            return planes.reshape(shape)
        codes = planes[pixels:].astype(np.uint16)
        codes <<= 8
        codes |= planes[:pixels]
        return codes.reshape(shape)


_of_thread = threading.local()


def _unpacker() -> zstandard.ZstdDecompressor:
    """The calling thread's own: none may be used by two at once."""
    if not hasattr(_of_thread, "unpacker"):
        _of_thread.unpacker = zstandard.ZstdDecompressor()
    return cast("zstandard.ZstdDecompressor", _of_thread.unpacker)


def _unreadable(path: Path, error: OSError) -> DataError:
    return read_error(path, error, REPAIR_HINT)


def _read_index(path: Path, file: BinaryIO, digest: str) -> tuple[tuple[int, int, int, int], int, bytes]:
    """Shape (slices, channels, rows, columns), bytes per pixel, and index entries of an open slice file."""
    header = file.read(HEADER.size)
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        raise DataError(f"{path}: damaged (no slice file); {REPAIR_HINT}")
    _, version, slices, channels, rows, columns, width = HEADER.unpack(header)
    length = os.fstat(file.fileno()).st_size
    if HEADER.size + ENTRY.size * slices > length:
        raise DataError(f"{path}: truncated; {REPAIR_HINT}")
    entries = file.read(ENTRY.size * slices)
    if hashlib.sha256(header + entries).hexdigest() != digest or version != VERSION:
        raise DataError(f"{path}: damaged (its index does not have the digest in the manifest); {REPAIR_HINT}")
    offset, size, _ = ENTRY.unpack_from(entries, ENTRY.size * (slices - 1))
    if offset + size != length:
        raise DataError(f"{path}: truncated or damaged ({length} bytes, not {offset + size}); {REPAIR_HINT}")
    return (slices, channels, rows, columns), width, entries
