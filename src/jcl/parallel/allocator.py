"""How memory is asked for on a CPU."""

import ctypes
import os

__all__ = ["keep_memory"]

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"

THEIR_OWN = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")
"""Variables by which a user says how memory is to be asked for; where one is set, it stays as they have it."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""Numbers of glibc's settings, from malloc.h."""

LARGE, MOST_KEPT = 32 << 20, 1 << 30
"""Bytes of what is large (glibc refuses a higher limit), and of what is kept of all that is not."""


def keep_memory(*, large: bool = True) -> None:
    """Memory that is freed is kept for the next array, for the rest of the process.

    A training step gets and frees arrays of hundreds of MiB. By default each comes from the system and goes back to it,
    which hands it over in pages of 4 KiB that it fills with zeros while the program waits. The price is some more
    memory, since what is kept does not always fit what is asked for; `benchmarks/bench_allocator.py` measures both.

    Where the C library is not glibc, or the user has own settings, PyTorch is asked for pages of 2 MiB instead,
    which are handed over faster; it looks for that when it makes its first tensor, and later the call does nothing.

    Args:
        large: keep arrays of more than 32 MiB, too, and whatever the sum of all.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None or any(name in os.environ for name in THEIR_OWN):
        os.environ.setdefault(HUGE_PAGES, "1")
        return
    if large:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
    else:
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_TRIM_THRESHOLD, MOST_KEPT)
