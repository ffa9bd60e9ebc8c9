"""Pre-training methods, one file each; the name of the file is the name of the method.

A method is an `nn.Module` with a backbone in it (see `Method`); the keyword arguments of its constructor
are its settings. To add one, write `methods/NAME.py` with the class alone in `__all__`; there is no list
to extend.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Protocol, cast

from torch import Generator, Tensor, nn

from jcl.data.batches import SliceBatch
from jcl.errors import UsageError

__all__ = ["Method", "available", "load"]


class Method(Protocol):
    """What the pre-training loop asks of a method; all of it is on an `nn.Module`."""

    backbone: nn.Module

    learning_rate: float
    """Peak learning rate of SGD with momentum that suits the method, unless the user gives one."""

    phases: int
    """Parts of the run, of equal length, that each have a learning-rate schedule of their own (GCL has two)."""

    transfers: tuple[str, ...]
    """Names of the backbone's submodules that are trained, and go on to fine-tuning."""

    def views(self, batch: SliceBatch, generator: Generator) -> tuple[Tensor, ...]:
        """Augmented views of a batch."""
        ...

    def __call__(self, views: tuple[Tensor, ...], batch: SliceBatch) -> dict[str, Tensor]:
        """Scalars: `loss` is minimised, the rest is logged.

        `feature_std` (1: spread over the sphere, 0: all the same) and `alignment` (mean cosine of positive
        pairs) among them watch for collapse.
        """
        ...

    def after_step(self, progress: float) -> None:
        """Update teachers, queues and the phase; `progress` is the share of the run that is done."""
        ...


def available() -> list[str]:
    """Names of the methods that come with `jcl`, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Callable[..., nn.Module]:
    """The class of the method called `name`, to be called with `backbone` and settings.

    Raises:
        UsageError: there is no such method.
    """
    if name not in available():
        raise UsageError(f"no method {name!r}; there are: {', '.join(available())}")
    module = importlib.import_module(f"{__name__}.{name}")
    return cast("Callable[..., nn.Module]", getattr(module, module.__all__[0]))
