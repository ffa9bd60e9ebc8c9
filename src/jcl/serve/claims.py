"""How large an upload says that it is, read from its first bytes before anything of it is unpacked."""

import math
import struct
import zlib
from pathlib import Path

from jcl.serve.refusal import Refusal

__all__ = ["check_claim"]

HEADER = 348
PACKED = 1 << 16
"""Bytes that are enough to unpack a header from."""


def check_claim(path: Path, suffix: str, most: float) -> None:
    """See that a NIfTI file does not say that it is larger than allowed.

    Files of which this cannot be told here pass: whoever reads them checks them, see `jcl.data.imagefile`.

    Args:
        path: the upload.
        suffix: of its name.
        most: bytes that it may have when it is unpacked.

    Raises:
        Refusal: it says so.
    """
    if suffix not in (".nii", ".nii.gz"):
        return
    with path.open("rb") as file:
        start = file.read(PACKED)
    if suffix == ".nii.gz":
        try:
            start = zlib.decompressobj(31).decompress(start, HEADER)
        except zlib.error:
            return
    if len(start) < HEADER:
        return
    order = next((each for each in "<>" if struct.unpack_from(f"{each}i", start)[0] == HEADER), None)
    if order is None:
        return
    rank, *sides = struct.unpack_from(f"{order}8h", start, 40)
    bits = struct.unpack_from(f"{order}h", start, 72)[0]
    claimed = math.prod(max(0, side) for side in sides[: max(0, min(rank, 7))]) * max(0, bits) / 8
    if claimed > most:
        raise Refusal(413, f"{path.name}: {claimed / 1e6:.0f} MB by its header; {most / 1e6:.0f} MB are allowed")
