"""The settings of a method: the keyword arguments of its constructor, with their defaults and what is said of them."""

import inspect
import re
from typing import Any, NamedTuple

from jcl.errors import UsageError
from jcl.methods._base import Method

__all__ = ["Setting", "settings"]


class Setting(NamedTuple):
    """One keyword argument."""

    name: str
    default: Any
    text: str
    """From `Args:` in the docstring of the class or its constructor."""


def settings(method: type[Method]) -> list[Setting]:
    """The keyword arguments of a method's constructor.

    Where that takes more by `**`, those of the method's `further_settings` and of `Method` follow.

    Raises:
        UsageError: an argument has no default.

    Example:
        >>> import jcl
        >>> [setting.name for setting in settings(jcl.methods.load("simclr"))]
        ['temperature', 'projection', 'rotation', 'scale', 'translation']
    """
    parameters = inspect.signature(method).parameters.values()
    takes_more = any(p.kind is p.VAR_KEYWORD for p in parameters)
    takers = (method, *method.further_settings, Method) if takes_more else (method,)
    found = [setting for taker in takers for setting in _arguments(taker)]
    if lacking := [each.name for each in found if each.default is inspect.Parameter.empty]:
        raise UsageError(f"{method.__qualname__}: setting {lacking[0]!r} has no default")
    return found


def _arguments(taker: type[Any]) -> list[Setting]:
    texts = {name: text for each in (taker, taker.__init__) for name, text in _argument_texts(each).items()}
    return [
        Setting(p.name, p.default, texts.get(p.name, ""))
        for p in inspect.signature(taker).parameters.values()
        if p.name != "backbone" and p.kind is not p.VAR_KEYWORD
    ]


def _argument_texts(described: Any) -> dict[str, str]:
    """What a Google-style docstring says of each argument; indented lines go on with the last one."""
    section = re.search(r"^Args:\n((?:[ ]+.*\n?|\n)+)", inspect.getdoc(described) or "", re.MULTILINE)
    texts: dict[str, str] = {}
    name = None
    for line in section[1].splitlines() if section else []:
        if entry := re.match(r" {4}(\w+): (.*)", line):
            name, texts[entry[1]] = entry[1], entry[2]
        elif name and line.strip():
            texts[name] += " " + line.strip()
    return texts
