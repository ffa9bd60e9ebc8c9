"""Several processes: the rows of all of them, as one process would have them, and what they do together."""

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Generator, Tensor, distributed, nn

__all__ = [
    "any_rank",
    "average_gradients",
    "barrier",
    "gather",
    "gather_states",
    "is_main_process",
    "rank",
    "rank_generator",
    "same_everywhere",
    "world_size",
]


APART = 1_000_003
"""Between the seeds of two processes, so that neighbouring seeds of a user's have none in common."""


def world_size() -> int:
    """How many processes train together; 1 where no process group was set up."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process among them, from 0."""
    return distributed.get_rank() if world_size() > 1 else 0


def is_main_process() -> bool:
    """Whether this process writes and prints for all."""
    return rank() == 0


def gather(rows: Shaped[Tensor, "n ..."]) -> Shaped[Tensor, "m ..."]:
    """The rows of all processes, in the order of their ranks; with one process, the rows themselves.

    Every process has to call it with as many rows, and to compute the same loss from what it returns. Each then
    gets the gradient of its own rows times the number of processes, so that the mean over processes, which is
    what training in parallel takes, is the gradient of that loss.
    """
    return rows if world_size() == 1 else _Gather.apply(rows)  # pyright: ignore[reportReturnType]


class _Gather(torch.autograd.Function):
    """No communication on the way back: every process has the gradient of its own rows already."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.count = len(rows)
        return torch.cat(_of_all(rows))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        start = distributed.get_rank() * ctx.count
        return grad_output[start : start + ctx.count] * world_size()


def gather_states(state: Shaped[Tensor, " k"]) -> Shaped[Tensor, "..."]:
    """The state (of a random generator, say) of each process as one row; with one process, the state itself."""
    return state if world_size() == 1 else torch.stack(_of_all(state))


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give every process the mean of the gradients of all, in one message.

    Parameters without a gradient are left out; they have to be the same everywhere.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if world_size() == 1 or not gradients:
        return
    # as they lie in memory, which is the same in every process: no copy but the one into the message
    parts = [g.as_strided((g.numel(),), (1,), g.storage_offset()) for g in gradients]
    message = torch.cat(parts)
    distributed.all_reduce(message)  # pyright: ignore[reportPrivateImportUsage]
    message.div_(world_size())
    for part, mean in zip(parts, message.split([len(part) for part in parts]), strict=True):
        part.copy_(mean)


def any_rank(*asked: bool) -> tuple[bool, ...]:
    """Which of these any process asks for, the same answer in all; every process has to call it."""
    if world_size() == 1:
        return asked
    votes = torch.tensor(asked, dtype=torch.int32)
    distributed.all_reduce(votes, op=distributed.ReduceOp.MAX)  # pyright: ignore[reportPrivateImportUsage]
    return tuple(bool(vote) for vote in votes.tolist())


def same_everywhere(value: object) -> bool:
    """Whether all processes have the same value, by what it is as text; every process has to call it."""
    digest = torch.frombuffer(bytearray(hashlib.sha256(repr(value).encode()).digest()), dtype=torch.uint8)
    states = gather_states(digest).reshape(-1, len(digest))
    return bool((states == states[0]).all())


def barrier() -> None:
    """Go on when all processes have come here."""
    if world_size() > 1:
        distributed.barrier()


def rank_generator(seed: int) -> Generator:
    """A generator of this process's own; PyTorch's, of which dropout draws, is given another seed in each as well."""
    if not is_main_process():
        torch.manual_seed(seed + rank() * APART)
    return Generator().manual_seed(seed + rank() * APART)


def _of_all(tensor: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(world_size())]
    distributed.all_gather(parts, tensor.contiguous())  # pyright: ignore[reportPrivateImportUsage]
    return parts
