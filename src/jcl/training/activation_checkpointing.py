"""Activation checkpointing: less memory for more time (Chen et al., 2016, arXiv:1604.06174)."""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]
from torch.utils.checkpoint import checkpoint

__all__ = ["recompute_activations"]


def recompute_activations(network: nn.Module) -> None:
    """Have the blocks of a network keep their input alone, and compute what is between again on the way back.

    Blocks are the innermost modules with two layers or more that have weights. Outputs, gradients and running
    statistics are those of the network as it was, bit for bit.
    """
    for block in _blocks(network):
        block.forward = _recomputed(block, block.forward)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    layers = [child for child in module.children() if not any(child.children())]
    if sum(any(True for _ in layer.parameters()) for layer in layers) > 1 and not isinstance(module, nn.ModuleList):
        yield module
        return
    for child in module.children():
        yield from _blocks(child)


def _recomputed(block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(block)

    def run(*inputs: Any) -> Any:
        return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts)

    return run


@contextmanager
def _statistics_kept(block: nn.Module) -> Generator[None, None, None]:
    """The second pass normalises as the first did, but counts for the running statistics no more."""
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    kept = [(norm.momentum, cast("Tensor", norm.num_batches_tracked).clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum = momentum
            cast("Tensor", norm.num_batches_tracked).copy_(count)
