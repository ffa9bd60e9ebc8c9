"""Semi-supervised techniques of fine-tuning, one file each; the name of the file is the name of the technique.

A technique is a `Technique`: the network that is fine-tuned, and how it learns of slices without labels beside those
with. The keyword arguments of its constructor are its settings. To add one, write `semi/NAME.py` with the class alone
in `__all__`; there is no list to extend.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from jcl._lazy import attach
from jcl.arguments import Setting, arguments, check_given
from jcl.backbones import Backbone, dimensions_of
from jcl.errors import UsageError
from jcl.limits import SEMI
from jcl.schema import did_you_mean
from jcl.semi._base import Progress, Supervision, Technique

__all__ = ["Progress", "Setting", "Supervision", "Technique", "available", "build", "check", "load", "settings"]


def available() -> list[str]:
    """Names of the techniques, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load(name: str) -> type[Technique]:
    """The class of the technique called `name`, to be called with `backbone`, `supervision` and settings.

    Raises:
        UsageError: there is no such technique.
    """
    if name not in available():
        near = did_you_mean(name, available())
        raise UsageError(f"no semi-supervised technique {name!r}; there are: {', '.join(available())}{near}")
    module = importlib.import_module(f"{__name__}.{name}")
    return getattr(module, module.__all__[0])


def settings(technique: type[Technique]) -> list[Setting]:
    """The keyword arguments of a technique's constructor, with their defaults and what is said of them.

    Raises:
        UsageError: an argument has no default.
    """
    return arguments((technique,), without=("backbone", "supervision"))


def check(name: str, given: Mapping[str, Any], dimensions: int = 2) -> None:
    """See that there is such a technique, for images of so many dimensions, and that it takes these settings.

    Raises:
        UsageError: it is not there, is not written for them, has no such setting, or a value cannot be used.
    """
    if dimensions not in load(name).dimensions:
        fitting = [each for each in available() if dimensions in load(each).dimensions]
        raise UsageError(f"{name} is not written for {dimensions} dimensions; there are: {', '.join(fitting)}")
    check_given(f"technique {name}", given, settings(load(name)), SEMI)


def build(name: str, backbone: Backbone, supervision: Supervision, given: Mapping[str, Any]) -> Technique:
    """The technique called `name` around a network, with the settings that are given.

    Raises:
        UsageError: see `check`; or the technique cannot be had with this network.
    """
    check(name, given, dimensions_of(backbone))
    return load(name)(backbone, supervision, **given)


__getattr__, __dir__ = attach(__name__)
