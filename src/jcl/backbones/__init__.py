"""Segmentation networks, one file each; the name of the file is the name of the network.

A backbone is an `nn.Module` that every method can pre-train (see `Backbone`). To add one, write
`backbones/NAME.py` with the class alone in `__all__`; there is no list to extend. A network outside of this package
is named as `package.module:factory`; `adapt` makes one of any network with encoder and decoder blocks.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from jcl._lazy import attach
from jcl.backbones._adapter import Adapted, DecoderBlockSpec, adapt, unwrap
from jcl.backbones._base import (
    MEMBERS,
    Backbone,
    crop_like,
    dimensions_of,
    encode_padded,
    extend,
    growth,
    multiples_of,
    pad_to_multiple,
)
from jcl.backbones._by_name import import_callable, import_trusted, plain_settings
from jcl.errors import DataError, UsageError
from jcl.schema import did_you_mean

__getattr__, __dir__ = attach(__name__)

__all__ = [
    "Adapted",
    "Backbone",
    "DecoderBlockSpec",
    "adapt",
    "available",
    "crop_like",
    "default_width",
    "dimensions",
    "dimensions_of",
    "encode_padded",
    "extend",
    "growth",
    "load",
    "multiples_of",
    "pad_to_multiple",
    "rebuild",
    "restore",
    "unwrap",
]

MOST_LEVELS = 8
"""Of a network that a file describes."""


def available(sides: int | None = None) -> list[str]:
    """Names of the networks that come with `jcl`, sorted; with `sides` those alone whose images have so many."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    return names if sides is None else [name for name in names if dimensions(name) == sides]


def dimensions(name: str) -> int:
    """Sides of the images that the network called `name` takes; 2 for one that does not come with `jcl`."""
    return int(getattr(load(name), "dimensions", 2)) if name in available() else 2


def load(name: str) -> Callable[..., Backbone]:
    """The class of the network called `name`, to be called with `in_channels`, `classes`, `width`.

    `package.module:factory` is imported from the current folder or from what is installed; what it returns is checked.

    Raises:
        UsageError: there is no such network, or the module cannot be imported. So does the call of a factory that
            does not take these settings, or whose result is not a backbone.
    """
    if ":" in name:
        return _checked(name, import_callable(name))
    if name not in available():
        known = ", ".join(available())
        raise UsageError(
            f"no backbone {name!r}; there are: {known}, and package.module:factory of your own"
            f"{did_you_mean(name, available())}"
        )
    module = importlib.import_module(f"{__name__}.{name}")
    return cast("Callable[..., Backbone]", getattr(module, module.__all__[0]))


def rebuild(settings: object, file: Path, *, trust_code: bool = False) -> Backbone:
    """The network that a file describes, with new weights. Only those that come with `jcl` are built without more.

    Args:
        settings: as the file has them: `name`, and the arguments.
        file: for messages.
        trust_code: whether the file may name a network of its own, which imports the module that it names.

    Raises:
        UsageError: it names one of its own, and that is not allowed or not to be had.
        DataError: it is not how a network is recorded.
    """
    name, given = plain_settings(settings, file)
    if ":" in name:
        return _checked(name, import_trusted(name, file, trust_code=trust_code))(**given)
    if name not in available():
        raise DataError(f"{file}: its network {name!r:.80} is none of this jcl's ({', '.join(available())})")
    build = load(name)
    try:
        inspect.signature(build).bind(**given)
    except TypeError as error:
        raise DataError(f"{file}: not how the network {name} is recorded ({error}); restore it") from error
    if wrong := [key for key, value in given.items() if key != "strides" and (type(value) is not int or value < 1)]:
        raise DataError(f"{file}: {wrong[0]} of its network is {given[wrong[0]]!r:.40}, no whole number above 0")
    if not _are_strides(given.get("strides", [[2, 2, 2]])):
        raise DataError(f"{file}: strides of its network is {given['strides']!r:.40}, no list of three 1 or 2 a level")
    return build(**given)


def _are_strides(value: object) -> bool:
    """Whether they can be those of a network of three dimensions."""
    levels = cast("list[Any]", value) if isinstance(value, list) else []
    return 0 < len(levels) <= MOST_LEVELS and all(
        isinstance(level, list)
        and len(cast("list[Any]", level)) == 3
        and all(type(n) is int and n in (1, 2) for n in level)
        for level in levels
    )


def restore(settings: object, file: Path, weights: Mapping[str, Tensor], *, trust_code: bool = False) -> Backbone:
    """The network that a file describes, with its weights: it takes no more memory than they do.

    Args:
        settings: see `rebuild`.
        file: for messages.
        weights: of the whole network.
        trust_code: see `rebuild`.

    Raises:
        UsageError: see `rebuild`.
        DataError: it is not how a network is recorded, or not that of the weights.
    """
    name, _ = plain_settings(settings, file)
    if ":" not in name:
        try:
            with torch.device("meta"):  # of the shapes alone, which may be of any size
                _check_weights(rebuild(settings, file), weights, file)
        except RuntimeError as error:
            raise DataError(f"{file}: its network is larger than any can be; restore it") from error
    network = rebuild(settings, file, trust_code=trust_code)
    _check_weights(network, weights, file)
    network.load_state_dict(weights)
    return network


def _check_weights(network: Backbone, weights: Mapping[str, Tensor], file: Path) -> None:
    own, given = ({n: tuple(t.shape) for n, t in tensors.items()} for tensors in (network.state_dict(), weights))
    for name in {**own, **given}:
        if own.get(name) != given.get(name):
            said = f"{name} is {given.get(name, 'missing')} in these, {own.get(name, 'missing')} in the network"
            raise DataError(f"{file}: its network is not that of the weights ({said:.200}); restore it")


def default_width(name: str) -> int:
    """The width that the network called `name` has in its paper: the default of its class.

    Raises:
        UsageError: see `load`; or a factory of the user's own has no default.
    """
    build = import_callable(name) if ":" in name else load(name)
    parameter = inspect.signature(build).parameters.get("width")
    if parameter is None or not isinstance(parameter.default, int):
        raise UsageError(f"{name} has no width of its own; give --width")
    return parameter.default


def _checked(name: str, factory: Callable[..., Any]) -> Callable[..., Backbone]:
    """The factory, with a check of what it is given and what it returns."""

    def make(**settings: Any) -> Backbone:
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

    return cast("Callable[..., Backbone]", make)


def _check_backbone(name: str, network: Any) -> None:
    if not isinstance(network, nn.Module):
        raise UsageError(f"{name} returned a {type(network).__name__}, no torch.nn.Module")
    if lacking := [key for key in MEMBERS if not hasattr(network, key)]:
        raise UsageError(
            f"{name}: {type(network).__name__} lacks {', '.join(lacking)} of jcl.backbones.Backbone; "
            "jcl.backbones.adapt adds them"
        )
    Backbone.register(type(network))  # it need not be a subclass to be one
