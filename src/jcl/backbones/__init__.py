"""Segmentation networks, one file each; the name of the file is the name of the network.

A backbone is an `nn.Module` that every method can pre-train (see `Backbone`). To add one, write
`backbones/NAME.py` with the class alone in `__all__`; there is no list to extend. A network outside of this package
is named as `package.module:factory`; `jcl.adapter` makes one of any network with encoder and decoder stages.
"""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jcl.errors import UsageError

__all__ = ["Backbone", "available", "crop_like", "encode_padded", "load", "own_width", "pad_to_multiple"]


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

    `package.module:factory` is imported from the current folder or from what is installed; what it returns is checked.

    Raises:
        UsageError: there is no such network, or the module cannot be imported. So does the call of a factory that
            does not take these settings, or whose result is no backbone.
    """
    if ":" in name:
        return _checked(name, _import_factory(name))
    if name not in available():
        raise UsageError(
            f"no backbone {name!r}; there are: {', '.join(available())}, and package.module:factory of your own"
        )
    module = importlib.import_module(f"{__name__}.{name}")
    return cast("Callable[..., nn.Module]", getattr(module, module.__all__[0]))


def own_width(name: str) -> int:
    """The width that the network called `name` has in its paper: the default of its class.

    Raises:
        UsageError: see `load`; or a factory of the user's own has no default.
    """
    build = _import_factory(name) if ":" in name else load(name)
    parameter = inspect.signature(build).parameters.get("width")
    if parameter is None or not isinstance(parameter.default, int):
        raise UsageError(f"{name} has no width of its own; give --width")
    return parameter.default


def _import_factory(name: str) -> Callable[..., Any]:
    where, _, attribute = name.partition(":")
    module = _import_module(where)
    factory = getattr(module, attribute, None)
    if not callable(factory):
        found = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UsageError(
            f"{where} has no function or class {attribute!r}; it has: {', '.join(sorted(found)) or 'none'}"
        )
    return factory


def _import_module(where: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path:  # a console script has its own folder there, not the current one
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(where)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{where}.".startswith(f"{error.name}."):
            raise UsageError(f"no module {where!r}, neither in {folder} nor among what is installed") from error
        line = " ".join(str(error).split())
        raise UsageError(f"module {where} cannot be imported ({type(error).__name__}: {line})") from error


def _checked(name: str, factory: Callable[..., Any]) -> Callable[..., nn.Module]:
    """The factory, with a check of what it is given and what it returns."""

    def make(**settings: Any) -> nn.Module:
        try:
            inspect.signature(factory).bind(**settings)
        except TypeError as error:
            raise UsageError(f"{name} has to take {', '.join(settings)} by name ({error})") from error
        network = factory(**settings)
        _check_backbone(name, network)
        asked = settings.get("in_channels", network.in_channels)
        if network.in_channels != asked:
            raise UsageError(f"{name} made a network for {network.in_channels} channels; {asked} were asked for")
        return network

    return make


def _check_backbone(name: str, network: Any) -> None:
    if not isinstance(network, nn.Module):
        raise UsageError(f"{name} returned a {type(network).__name__}, no torch.nn.Module")
    methods = [key for key, value in vars(Backbone).items() if inspect.isfunction(value) and not key.startswith("_")]
    lacking = [key for key in (*Backbone.__annotations__, *methods) if not hasattr(network, key)]
    if lacking:
        raise UsageError(
            f"{name}: {type(network).__name__} lacks {', '.join(lacking)} of jcl.backbones.Backbone; "
            "jcl.adapter.adapt adds them"
        )


def pad_to_multiple(x: Float[Tensor, "b c h w"], multiple: int) -> Float[Tensor, "b c H W"]:
    """Pad with zeros at the bottom and the right to the next multiple (no copy where none is needed)."""
    height, width = x.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    return F.pad(x, (0, right, 0, bottom)) if bottom or right else x


def encode_padded(encoder: Callable[[Tensor], list[Tensor]], x: Float[Tensor, "b c h w"], stride: int) -> list[Tensor]:
    """Features of `x`, padded to a multiple of `stride`, from an encoder that normalises each slice by itself.

    Normalising takes more than the one value that the bottleneck has of an image of `stride` x `stride` pixels, so
    such an image is encoded with as much zero padding beside it, which is cut off the features.
    """
    x = pad_to_multiple(x, stride)
    if x.shape[-2:] != (stride, stride):
        return encoder(x)
    return [level[..., : level.shape[-1] // 2] for level in encoder(F.pad(x, (0, stride)))]


def crop_like(x: Float[Tensor, "b k H W"], like: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
    """Cut off at the bottom and the right what `pad_to_multiple` had added to `like`."""
    return x[..., : like.shape[-2], : like.shape[-1]]
