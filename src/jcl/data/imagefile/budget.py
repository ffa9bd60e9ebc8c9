"""How much memory one scan may take: compared with what its header claims before any of it is taken."""

import math
import os
from functools import lru_cache
from pathlib import Path

from jcl.errors import DataError, UsageError
from jcl.parallel.machine import memory_limit, size

__all__ = ["VARIABLE", "check_memory", "scan_memory"]

VARIABLE = "JCL_MEMORY_GB"
"""Environment variable that sets it, in GB (10^9 bytes)."""

SHARE = 0.5
"""Of the memory that this process may use, where the variable is not set."""

WORKED_ON = 12
"""Bytes that each voxel takes while a scan is prepared, beyond those of its file: float32, and two copies."""


def scan_memory() -> int | None:
    """Bytes that one scan may take; None where the system does not say what it has.

    Raises:
        UsageError: the variable is not a number above 0.
    """
    return _budget(os.environ.get(VARIABLE, ""))


@lru_cache(maxsize=8)
def _budget(said: str) -> int | None:
    if not said:
        limit = memory_limit()
        return None if limit is None else int(SHARE * limit)
    try:
        value = float(said)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"{VARIABLE} is {said!r:.40}; it has to be a number of GB above 0, as 16")
    return int(value * 1e9)


def check_memory(path: Path, voxels: float, voxel_bytes: float) -> None:
    """See that a scan may take the memory that it needs.

    Args:
        path: of the scan, for the message.
        voxels: that its header claims, channels and all.
        voxel_bytes: of one voxel as it is stored.

    Raises:
        DataError: it needs more.
        UsageError: see `scan_memory`.
    """
    needed, allowed = voxels * (voxel_bytes + WORKED_ON), scan_memory()
    if allowed is not None and needed > allowed:
        raise DataError(
            f"{path}: needs {size(needed)} of memory by its header, more than the {size(allowed)} that one scan may "
            f"take; leave it out, or set {VARIABLE}={math.ceil(needed / 1e9)}"
        )
