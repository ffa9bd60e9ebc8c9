"""Networks and methods of the user's own, named as `package.module:name`."""

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, cast, get_type_hints

from torch import nn

from jcl.errors import DataError, UsageError, foreign_code

__all__ = ["import_callable", "import_trusted", "plain_settings"]

OWN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
PLAIN = re.compile(r"[\w .+-]{1,80}")
"""Text that a file may give to a network: a plain name, no path and no expression."""


def import_callable(name: str) -> Callable[..., Any]:
    """The function or class that `package.module:name` says, from the current folder or from what is installed.

    Raises:
        UsageError: the module is not there or cannot be imported, or has nothing of that name to call.
    """
    where, _, attribute = name.partition(":")
    module = _import_module(where)
    found = getattr(module, attribute, None)
    if not callable(found):
        there = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UsageError(
            f"{where} has no function or class {attribute!r}; it has: {', '.join(sorted(there)) or 'none'}"
        )
    return found


def import_trusted(name: str, file: Path, *, trust_code: bool) -> Callable[..., Any]:
    """What `package.module:name` says, where a file says so and not the user.

    A subclass of `nn.Module`, or a function that is annotated to return one, and that is defined in that very module:
    neither `subprocess:run` nor what a module has from another is ever called.

    Raises:
        UsageError: it is not allowed, cannot be imported, or is none of these.
    """
    if not trust_code or not OWN.fullmatch(name):
        raise foreign_code(file, "network", name)
    found = import_callable(name)
    made: object = get_type_hints(found).get("return") if isinstance(found, FunctionType) else found
    if not (isinstance(made, type) and issubclass(made, nn.Module)) or found.__module__ != name.partition(":")[0]:
        raise UsageError(
            f"{file}: names the network {name}, which is no subclass of torch.nn.Module, nor a function annotated with "
            "-> nn.Module, that this module itself defines; mend the module"
        )
    return found


def plain_settings(settings: object, file: Path) -> tuple[str, dict[str, Any]]:
    """The name and the arguments of a network as a file has them: numbers, booleans, plain names, lists of these.

    Raises:
        DataError: anything else.
    """
    values = cast("dict[str, Any]", settings) if isinstance(settings, dict) else {}
    name = values.get("name")
    if not isinstance(name, str):
        raise DataError(f"{file}: names no network; restore it or train again")
    given = {key: value for key, value in values.items() if key != "name"}
    if wrong := [key for key, value in given.items() if not key.isidentifier() or not _is_plain(value)]:
        raise DataError(f"{file}: the argument {wrong[0]!r:.40} of its network is no number, name or list of these")
    return name, given


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_plain(each) for each in cast("list[object]", value))
    return isinstance(value, bool | int | float) or (isinstance(value, str) and PLAIN.fullmatch(value) is not None)


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
