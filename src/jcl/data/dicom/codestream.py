"""JPEG, JPEG-LS and JPEG 2000 data say themselves how large an image is and of how many bits; the header does so too.

Where the two differ, writers have mostly packed the values' two's complement as if it were a number without sign, or
the header's bits are those of the scanner and the data's those in use.
"""

import re
import struct
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer

from jcl.data.dicom.header import COMPRESSED, Header

__all__ = ["Codestream", "read_codestream", "stored_values"]


@dataclass(frozen=True)
class Codestream:
    """What the data of one frame say.

    Attributes:
        bits: of a value.
        signed: whether values have a sign; None of JPEG and JPEG-LS, which cannot say so.
    """

    rows: int
    columns: int
    samples: int
    bits: int
    signed: bool | None = None

    def __str__(self) -> str:
        sign = "" if self.signed is None else ", signed" if self.signed else ", unsigned"
        return f"{self.bits} bits{sign}"


def read_codestream(header: Header, frame: bytes) -> Codestream | None:
    """What the data of a frame say of it, or None if they do not begin as such data do."""
    return _read_jpeg2000(frame) if COMPRESSED[header.syntax] == "JPEG 2000" else _read_jpeg(frame)


def stored_values(
    header: Header, stream: Codestream, values: Integer[np.ndarray, "rows columns"]
) -> tuple[Integer[np.ndarray, "rows columns"], str]:
    """Values as the header means them, from those that the data hold by themselves.

    Data without a sign whose header has one hold the two's complement, of as many bits as both have.

    Returns:
        The values; and how they were taken, where data and header say different things of them, else an empty text.

    Raises:
        ValueError: a value does not fit into the bits, or the sign, that the header says.
    """
    shown = f"the data have {stream}, the header {header.stored} bits, {'signed' if header.signed else 'unsigned'}"
    low, high = (-(1 << (header.stored - 1)), 1 << (header.stored - 1)) if header.signed else (0, 1 << header.stored)
    how = ""
    if header.signed and not stream.signed:
        bits = min(stream.bits, header.stored)
        taken = _with_sign(values, bits)
        if (values >> bits).any() and not np.array_equal(taken, _with_sign(values, stream.bits)):
            raise ValueError(f"{shown}, and not all values fit into these")
        if (taken < 0).any() and (stream.bits != header.stored or stream.signed is not None):
            how = f"{shown}; the values were taken for signed ones of {bits} bits"
        values = taken
    if not low <= int(values.min()) <= int(values.max()) < high:
        raise ValueError(f"{shown}, and values go from {values.min()} to {values.max()}")
    return values, how


def _with_sign(values: Integer[np.ndarray, "rows columns"], bits: int) -> Integer[np.ndarray, "rows columns"]:
    """The lowest bits as two's complement."""
    sign = 1 << (bits - 1)
    return ((values & (2 * sign - 1)) ^ sign) - sign


def _read_jpeg2000(data: bytes) -> Codestream | None:
    """By the SIZ segment, which comes first."""
    at = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at < 0 or len(data) < at + 43:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", data, at + 8)
    samples, depth = struct.unpack_from(">HB", data, at + 40)
    return Codestream(bottom - top, right - left, samples, (depth & 127) + 1, signed=depth > 127)


def _read_jpeg(data: bytes) -> Codestream | None:
    """By the frame's segment (SOF) of JPEG or JPEG-LS data."""
    at = 2 if data[:2] == b"\xff\xd8" else len(data)
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
        elif re.match(rb"[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf\xf7]", bytes([marker])):
            bits, rows, columns, samples = struct.unpack_from(">BHHB", data, at + 4)
            return Codestream(rows, columns, samples, bits)
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None
