"""Parts of a network as networks of their own."""

import copy
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

__all__ = ["copy_submodules", "frozen", "reset_parameters"]

Module = TypeVar("Module", bound=nn.Module)


def copy_submodules(network: Module, parts: Iterable[str]) -> Module:
    """A copy of the network with the same weights, less the submodules to which none of `parts` belongs.

    What runs on those parts alone (a backbone's `encode` on its `submodule_names(0)`) runs on the copy as well.
    """
    own = copy.deepcopy(network)
    kept = {part.split(".")[0] for part in parts}
    for name in [name for name, _ in own.named_children() if name not in kept]:
        delattr(own, name)
    return own


def reset_parameters(network: nn.Module) -> None:
    """Give every layer other weights, drawn as when it was made; parameters of no such layer keep theirs.

    What a network changes of its layers' own first weights, it changes here too (`Backbone.first_weights`).
    """
    for module in network.modules():
        if callable(draw := getattr(module, "reset_parameters", None)):
            draw()
    change: Callable[[nn.Module], None] | None = getattr(network, "first_weights", None)
    if change is not None:
        network.apply(change)


@contextmanager
def frozen(network: nn.Module, parts: Iterable[str]) -> Generator[None, None, None]:
    """Within it nothing gets a gradient, and batch normalisation in `parts` uses its running statistics as they are."""
    modules = [module for part in parts for module in network.get_submodule(part).modules()]
    modes = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
