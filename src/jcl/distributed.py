"""Several processes: the rows of all of them, as one process would have them."""

from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, distributed

__all__ = ["gather", "processes"]


def processes() -> int:
    """How many processes train together; 1 where no process group was set up."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def gather(rows: Shaped[Tensor, "n ..."]) -> Shaped[Tensor, "m ..."]:
    """The rows of all processes, in the order of their ranks; with one process, the rows themselves.

    Every process has to call it with as many rows, and to compute the same loss from what it returns. Each then
    gets the gradient of its own rows times the number of processes, so that the mean over processes, which is
    what training in parallel takes, is the gradient of that loss.
    """
    return rows if processes() == 1 else _Gather.apply(rows)  # pyright: ignore[reportReturnType]


class _Gather(torch.autograd.Function):
    """No communication on the way back: every process has the gradient of its own rows already."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(processes())]
        distributed.all_gather(parts, rows.contiguous())  # pyright: ignore[reportPrivateImportUsage]
        ctx.count = len(rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        start = distributed.get_rank() * ctx.count
        return grad_output[start : start + ctx.count] * processes()
