"""What an image file claims, checked against what it can hold; and the errors of files."""

import errno
import math
from pathlib import Path
from typing import NoReturn

from jcl.errors import DataError

__all__ = [
    "MAX_VOXELS",
    "WriteError",
    "check_claim",
    "check_length",
    "check_sizes",
    "check_spacing",
    "check_voxels",
    "refuse_packed",
    "write_error",
]

MAX_RATIO = 1100
"""Deflate packs at most about 1032 bytes into one."""

MAX_VOXELS = 1 << 31
"""More than any scan has (1290 a side), and within what a computer can hold."""


class WriteError(DataError):
    """A file could not be written (disk full, no permission); not the fault of any case."""


def write_error(path: Path, error: OSError) -> WriteError:
    """The error to raise when writing `path` failed."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    mend = "; free some space and run the same command again" if full else ""
    return WriteError(f"{path}: cannot be written ({error.strerror or error}){mend}")


def check_spacing(path: Path, spacing: tuple[float, ...]) -> None:
    """Each spacing (mm) has to be above 0.

    Raises:
        DataError: one is not.
    """
    # Readers take a spacing of 0, below it or NaN for 1 and go on.
    if not all(math.isfinite(value) and value > 0 for value in spacing):
        shown = " x ".join(f"{value:g}" for value in spacing)
        raise DataError(f"{path}: its spacing is {shown}; it has to be above 0 mm: correct the file's header")


def check_sizes(path: Path, sizes: tuple[float, ...], stored: int) -> None:
    """Voxels along each axis have to be at least 1, and as many as `stored` bytes may hold, packed.

    Raises:
        DataError: they are not.
    """
    if not sizes or not all(math.isfinite(size) and size >= 1 for size in sizes):
        raise DataError(f"{path}: its header claims no size that can be")
    check_voxels(path, math.prod(sizes))
    check_claim(path, math.prod(sizes), stored)


def check_voxels(path: Path, voxels: float) -> None:
    """Raises DataError when there are more voxels than any scan has."""
    if voxels > MAX_VOXELS:
        raise DataError(f"{path}: its header claims {voxels:.3g} voxels; at most {MAX_VOXELS:.3g} are supported")


def check_length(path: Path, needed: int, found: int) -> None:
    """Raises DataError when there are fewer bytes than are needed."""
    if found < needed:
        raise DataError(f"{path}: truncated; its header claims {needed} bytes, it has {found}; copy it again")


def check_claim(path: Path, needed: float, stored: int) -> None:
    """Raises DataError when no `stored` bytes can hold so much, packed."""
    if needed > stored * MAX_RATIO:
        raise DataError(f"{path}: truncated or corrupt; its header claims {needed:.0f} bytes, packed into {stored}")


def refuse_packed(path: Path, reason: str) -> NoReturn:
    """Raises DataError: what is packed is not as it was."""
    raise DataError(f"{path}: truncated or corrupt ({reason}); copy it again from its origin")
