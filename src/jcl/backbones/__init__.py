"""Segmentation networks, one file each; the name of the file is the name of the network.

A backbone is an `nn.Module` that every method can pre-train (see `Backbone`). To add one, write
`backbones/NAME.py` with the class alone in `__all__`; there is no list to extend.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Protocol, cast

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jcl.errors import UsageError

__all__ = ["Backbone", "available", "crop_like", "load", "pad_to_multiple"]


class Backbone(Protocol):
    """What methods and stages ask of a network; all of it is on an `nn.Module`."""

    in_channels: int
    """Channels of the images."""

    blocks: int
    """Decoder blocks; each doubles height and width."""

    stride: int
    """Height and width of the input over those of the bottleneck."""

    feature_channels: tuple[int, ...]
    """Channels of each level of `encode`, shallow to deep."""

    def encode(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """Features, shallow to deep; the last is the bottleneck."""
        ...

    def decode(self, features: list[Tensor], blocks: int | None = None) -> Tensor:
        """Output of the first `blocks` decoder blocks (None: all); nothing of the others runs."""
        ...

    def decoder_channels(self, blocks: int) -> int:
        """Channels that `decode(features, blocks)` returns."""
        ...

    def parts(self, blocks: int) -> tuple[str, ...]:
        """Names of the submodules that `encode` and `decode(features, blocks)` run, and of nothing else.

        `encode` also runs on a copy of the network that has the parts of 0 blocks alone.
        """
        ...

    def __call__(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Logits at the size of the input."""
        ...


def available() -> list[str]:
    """Names of the networks that come with `jcl`, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Callable[..., nn.Module]:
    """The class of the network called `name`, to be called with `in_channels`, `classes`, `width`.

    Raises:
        UsageError: there is no such network.
    """
    if name not in available():
        raise UsageError(f"no backbone {name!r}; there are: {', '.join(available())}")
    module = importlib.import_module(f"{__name__}.{name}")
    return cast("Callable[..., nn.Module]", getattr(module, module.__all__[0]))


def pad_to_multiple(x: Float[Tensor, "b c h w"], multiple: int, *, cells: int = 1) -> Float[Tensor, "b c H W"]:
    """Pad with zeros at the bottom and the right to the next multiple (no copy where none is needed).

    Where that makes fewer than `cells` squares of `multiple` pixels a side, it is padded on to that many at the right.
    """
    height, width = x.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if (height + bottom) * (width + right) < cells * multiple**2:
        right = cells * multiple - width
    return F.pad(x, (0, right, 0, bottom)) if bottom or right else x


def crop_like(x: Float[Tensor, "b k H W"], like: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
    """Cut off at the bottom and the right what `pad_to_multiple` had added to `like`."""
    return x[..., : like.shape[-2], : like.shape[-1]]
