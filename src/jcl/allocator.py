"""Memory that is freed is kept for the next step instead of going back to the system."""

import ctypes
import os

__all__ = ["keep_freed_memory"]

# parameters of mallopt in glibc's malloc.h
TRIM_THRESHOLD, MMAP_MAX = -1, -4
MOST = 2**31 - 1

CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""Variables by which the user has chosen otherwise."""


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep what is freed; returns whether it was told.

    By default it asks the system for every array of 32 MiB or more anew, whose pages the system fills with zeros while
    the program waits, and gives back the end of the heap whenever that is free. A training step needs the same arrays
    again and again. It holds for the whole process, which then keeps its peak of memory until it ends.

    Nothing is done with another C library, or where the environment has settings for it; another allocator that is
    loaded in its place does not notice.
    """
    if any(name in os.environ for name in CHOSEN):
        return False
    try:
        library = ctypes.CDLL(None)
        _ = library.gnu_get_libc_version
    except (AttributeError, OSError, TypeError):
        return False
    return bool(library.mallopt(MMAP_MAX, 0)) and bool(library.mallopt(TRIM_THRESHOLD, MOST))
