"""What an image file claims, checked against what it can hold; and the errors of files."""

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
from jaxtyping import Float

from jcl.data.affine import SQUARE, skewed
from jcl.data.imagefile.budget import check_memory
from jcl.errors import DataError

__all__ = [
    "MAX_VOXELS",
    "PACKED",
    "check_claim",
    "check_deflate",
    "check_length",
    "check_sizes",
    "check_spacing",
    "check_square",
    "check_voxels",
    "refuse_packed",
]

PACKED = "its packed content does not fit its checksum"
"""What is said where unpacking fails, whatever zlib calls it."""

CHUNK = 1 << 20

MAX_RATIO = 1100
"""Deflate packs at most about 1032 bytes into one."""

MAX_VOXELS = 1 << 31
"""More than any scan has (1290 a side), and within what a computer can hold."""


def check_spacing(path: Path, spacing: tuple[float, ...]) -> None:
    """Each spacing (mm) has to be above 0.

    Raises:
        DataError: one is not.
    """
    # Readers take a spacing of 0, below it or NaN for 1 and go on.
    if not all(math.isfinite(value) and value > 0 for value in spacing):
        shown = " x ".join(f"{value:g}" for value in spacing)
        raise DataError(f"{path}: its spacing is {shown}; it has to be above 0 mm: correct the file's header")


def check_sizes(path: Path, sizes: tuple[float, ...], stored: int, width: int = 1) -> None:
    """Voxels along each axis have to be at least 1, and as many as `stored` bytes may hold, packed.

    Args:
        path: of the file.
        sizes: along each axis, with channels.
        stored: bytes that there are.
        width: bytes of a voxel.

    Raises:
        DataError: they are not, or need more memory than a scan may take.
    """
    if not sizes or not all(math.isfinite(size) and size >= 1 and size == int(size) for size in sizes):
        raise DataError(f"{path}: its header claims no size that can be")
    check_claim(path, math.prod(sizes) * width, stored)
    check_voxels(path, math.prod(sizes), width)


def check_voxels(path: Path, voxels: float, width: float) -> None:
    """Raises DataError when there are more voxels (of `width` bytes) than any scan has, or memory may be taken for."""
    if voxels > MAX_VOXELS:
        raise DataError(f"{path}: its header claims {voxels:.3g} voxels; at most {MAX_VOXELS:.3g} are supported")
    check_memory(path, voxels, width)


def check_length(path: Path, needed: int, found: int) -> None:
    """Raises DataError when there are fewer bytes than are needed."""
    if found < needed:
        raise DataError(f"{path}: truncated; its header claims {needed} bytes, it has {found}; copy it again")


def check_claim(path: Path, needed: float, stored: int) -> None:
    """Raises DataError when no `stored` bytes can hold so much, packed."""
    if needed > stored * MAX_RATIO:
        raise DataError(f"{path}: truncated or corrupt; its header claims {needed:.0f} bytes, packed into {stored}")


def check_square(path: Path, steps: Float[np.ndarray, "3 3"], size: Sequence[int]) -> None:
    """The axes (a column each, mm per voxel) have to be at right angles, as far as an image of this size shows it.

    Raises:
        DataError: they are not.
    """
    if not (skew := skewed(steps, size)) <= SQUARE:
        moved = f"a corner would move by {skew:.3g} voxels" if math.isfinite(skew) else "one has no length"
        raise DataError(f"{path}: its axes are not at right angles ({moved}); resample it to a grid that is")


def refuse_packed(path: Path, reason: str) -> NoReturn:
    """Raises DataError: what is packed is not as it was."""
    raise DataError(f"{path}: truncated or corrupt ({reason}); copy it again from its origin")


def check_deflate(path: Path, data: Path, start: int, bits: int) -> None:
    """Run packed voxels through their checksum, keeping nothing.

    Args:
        path: of the image, for the message.
        data: the file that they are in.
        start: of them, bytes.
        bits: of the window, as zlib wants them: 31 for gzip, 15 for zlib.

    Raises:
        DataError: they are not as they were.
    """
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
    except zlib.error:
        refuse_packed(path, PACKED)
