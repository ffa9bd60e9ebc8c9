"""How PyTorch asks for memory on a CPU."""

import os

__all__ = ["ask_for_huge_pages"]

VARIABLE = "THP_MEM_ALLOC_ENABLE"


def ask_for_huge_pages() -> None:
    """Large tensors lie on pages of 2 MiB where Linux has them to give, for the rest of the process.

    A training step gets and frees arrays of hundreds of MiB, which the system hands over in pages that it fills with
    zeros, by default 4 KiB at a time while the program waits. PyTorch asks for large pages only when the environment
    says so, and looks there when it makes its first tensor: later the call does nothing. What the user has set stays.
    """
    os.environ.setdefault(VARIABLE, "1")
