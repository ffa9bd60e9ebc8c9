"""How memory is asked for on a CPU."""

import ctypes
import os
import sys

__all__ = ["keep_memory"]

VARIABLE = "THP_MEM_ALLOC_ENABLE"

THEIR_OWN = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")
"""Variables by which a user says how memory is to be asked for; where one is set, it stays as they have it."""

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Numbers of the settings, from malloc.h."""


def keep_memory() -> None:
    """Large tensors lie on pages of 2 MiB, and memory that is freed is kept for the next, for the rest of the process.

    A training step gets and frees arrays of hundreds of MiB. By default each comes from the system and goes back to it,
    which hands it over in pages of 4 KiB that it fills with zeros while the program waits: up to a third of a step. The
    price is memory that stays the process's own. `python benchmarks/bench_allocator.py` measures both.

    PyTorch asks for large pages only when the environment says so, and looks there when it makes its first tensor:
    later that part does nothing. Where the C library is not glibc the other part does nothing.
    """
    os.environ.setdefault(VARIABLE, "1")
    if not sys.platform.startswith("linux") or any(name in os.environ for name in THEIR_OWN):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
