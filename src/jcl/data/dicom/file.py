"""The bytes of a DICOM file, of which a reader gets no more than there are, whatever lengths its elements claim."""

import io
import struct
import zlib
from pathlib import Path

from jcl.data.imagefile.claims import PACKED
from jcl.errors import DataError

__all__ = ["DEFLATED", "MARK", "Bounded", "Opened", "first_bytes", "may_be_dicom", "open_dicom"]

Opened = io.BufferedReader | io.BytesIO

MARK = b"DICM"
DEFLATED = "1.2.840.10008.1.2.1.99"
MAX_INFLATED = 1 << 29
MAX_HEADER = 1 << 28
"""Bytes that the values of a header may have together."""

MAX_READS = 4_000_000
"""A file of more elements does not begin with a header; reading it would take minutes."""


def first_bytes(path: Path) -> bytes:
    """The 132 bytes that end with DICOM's mark; none of a file that cannot be read."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            return b""
        with path.open("rb") as file:
            return file.read(132)
    except OSError:
        return b""


def may_be_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM does: with its mark, or, in files of old, with an element of group 8 or 2."""
    start = first_bytes(path)
    # little- or big-endian
    return start[128:] == MARK or (len(start) >= 16 and start[:2] in (b"\x08\x00", b"\x02\x00", b"\x00\x08"))


class Bounded:
    """A file that gives no more than it has, whatever length is asked for, and only so much and so often.

    Args:
        size: of the file, bytes.
        limit: bytes that may be read in all.

    Raises:
        ValueError: more is read.
    """

    def __init__(self, file: Opened, size: int, limit: int = MAX_HEADER) -> None:
        self.file, self.size = file, size
        self.reads, self.bytes = MAX_READS, limit
        self.tell, self.close = file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes."""
        left = max(0, self.size - self.file.tell())
        size = left if size < 0 else min(size, left)
        self.reads -= 1
        self.bytes -= size
        if self.reads < 0 or self.bytes < 0:
            raise ValueError("its header has no end")
        return self.file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of any file."""
        return self.file.seek(offset, whence)


def open_dicom(path: Path) -> Opened:
    """The file, open; a deflated one as if it had not been deflated.

    Raises:
        DataError: it is deflated, and corrupt or beyond any size that a scan has.
        OSError: it cannot be read.
    """
    file = path.open("rb")
    start = file.read(1024)
    at = start.find(DEFLATED.encode()) if start[128:132] == b"DICM" else -1
    if at < 0:
        file.seek(0)
        return file
    with file:
        return io.BytesIO(_inflate(path, file, start, at))


def _inflate(path: Path, file: Opened, start: bytes, at: int) -> bytes:
    # The meta information before the deflated part: its length is in its first element.
    if start[132:138] != b"\x02\x00\x00\x00UL":
        raise DataError(f"{path}: its header is corrupt (no length of its meta information); copy it again")
    begin = 144 + struct.unpack_from("<I", start, 140)[0]
    file.seek(0)
    meta = file.read(min(begin, 1 << 20))
    # Named what it is now; the name has the same length with zeros, as a UID may be filled up with.
    plain = DEFLATED.removesuffix(".99").encode() + bytes(3)
    meta = meta[:at] + plain + meta[at + len(plain) :]
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = unpacker.decompress(file.read(), MAX_INFLATED)
    except zlib.error as error:
        raise DataError(f"{path}: truncated or corrupt ({PACKED}); copy it again from its origin") from error
    if not unpacker.eof:
        raise DataError(f"{path}: truncated, or more than {MAX_INFLATED} bytes deflated; copy it again or unpack it")
    return meta + content
