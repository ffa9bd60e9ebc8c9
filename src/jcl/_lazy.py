"""Submodules that are imported when they are first used, so that every path works after `import jcl` alone."""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from types import ModuleType

__all__ = ["attach"]


def attach(package: str) -> tuple[Callable[[str], ModuleType], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package (PEP 562), which find its submodules.

    Examples:
        __getattr__, __dir__ = attach(__name__)
    """

    def find(name: str) -> ModuleType:
        if name.startswith("__") or importlib.util.find_spec(f"{package}.{name}") is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return importlib.import_module(f"{package}.{name}")

    def names() -> list[str]:
        module = sys.modules[package]
        found = {each.name for each in pkgutil.iter_modules(module.__path__) if not each.name.startswith("_")}
        return sorted(found.union(vars(module)))

    return find, names
