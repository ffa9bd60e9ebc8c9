"""Pre-training methods, one file each; the name of the file is the name of the method.

A method is a `Method` with a backbone in it; the keyword arguments of its constructor are its settings. To add one,
write `methods/NAME.py` with the class alone in `__all__`; there is no list to extend. A method outside of this package
is named as `package.module:Class`.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from jcl._lazy import attach
from jcl.arguments import check_given
from jcl.backbones import Backbone, dimensions_of
from jcl.backbones._by_name import import_callable
from jcl.errors import UsageError
from jcl.limits import METHODS
from jcl.methods._base import Method, ViewRanges
from jcl.methods._settings import Setting, settings
from jcl.schema import did_you_mean

__all__ = ["Method", "Setting", "ViewRanges", "available", "build", "load", "settings"]


def available() -> list[str]:
    """Names of the methods that come with `jcl`, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load(name: str) -> type[Method]:
    """The class of the method called `name`, to be called with `backbone` and settings.

    `package.module:Class` is imported from the current folder or from what is installed.

    Raises:
        UsageError: there is no such method, the module cannot be imported, or what it has is not a `Method`.
    """
    if ":" in name:
        found: Any = import_callable(name)
        if not (isinstance(found, type) and issubclass(found, Method)):
            raise UsageError(f"{name} is not a subclass of jcl.methods.Method")
        return found
    if name not in available():
        known = ", ".join(available())
        near = did_you_mean(name, available())
        raise UsageError(f"no method {name!r}; there are: {known}, and package.module:Class of your own{near}")
    module = importlib.import_module(f"{__name__}.{name}")
    return getattr(module, module.__all__[0])


def build(name: str, backbone: Backbone, given: Mapping[str, Any]) -> Method:
    """The method called `name` around a backbone, with the settings that are given.

    Raises:
        UsageError: see `load`; or there is no such setting, or its value cannot be used; or the method is not written
            for images of as many dimensions.
    """
    method = load(name)
    check_dimensions(name, dimensions_of(backbone))
    check_given(f"method {name}", given, settings(method), {} if ":" in name else METHODS)
    return method(backbone, **given)


def check_dimensions(name: str, sides: int) -> None:
    """Raises UsageError where the method is not written for images of so many dimensions, and for what `load` does."""
    if sides not in load(name).dimensions:
        fitting = [each for each in available() if sides in load(each).dimensions]
        raise UsageError(f"{name} is not written for {sides} dimensions; there are: {', '.join(fitting)}")


__getattr__, __dir__ = attach(__name__)
