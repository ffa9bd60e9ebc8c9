"""Copies to a device that nobody waits for, where that is safe."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["send"]

WAITED_FOR = ("cpu", "mps")
"""What the CPU reads has to be there; and a Mac's GPU reads memory that may have the next batch by then."""


def send(tensor: "Tensor", device: "torch.device | str") -> "Tensor":
    """The tensor on a device; a GPU that still computes is not waited for.

    A copy that is waited for also waits for all that the GPU was given before, so that it has nothing to do afterwards.
    From memory that is not pinned CUDA has taken the values when this returns, so they may go.
    """
    kind = str(device).partition(":")[0]
    return tensor.to(device, non_blocking=kind not in WAITED_FOR)
