"""The settings of a method or technique: the keyword arguments of its constructor, and what is said of them."""

import inspect
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from jcl.errors import UsageError
from jcl.limits import Limit, check_number
from jcl.schema import did_you_mean

__all__ = ["Setting", "arguments", "check_choice", "check_given", "check_names"]


class Setting(NamedTuple):
    """One keyword argument."""

    name: str
    default: Any
    text: str
    """From `Args:` in the docstring of the class or its constructor."""


def arguments(takers: Sequence[type[Any]], *, without: Collection[str]) -> list[Setting]:
    """The arguments of the constructors of some classes, in their order.

    Args:
        takers: the classes; the first is named where something is wrong.
        without: names of arguments that are no settings.

    Raises:
        UsageError: an argument has no default.
    """
    found = [setting for taker in takers for setting in _of(taker, without)]
    if lacking := [each.name for each in found if each.default is inspect.Parameter.empty]:
        raise UsageError(f"{takers[0].__qualname__}: setting {lacking[0]!r} has no default")
    return found


def check_given(what: str, given: Mapping[str, Any], settings: Sequence[Setting], limits: Mapping[str, Limit]) -> None:
    """See that what is given are settings, of the type of their defaults, and numbers that can be meant.

    Raises:
        UsageError: they are not; `what` begins the message.
    """
    check_names(what, given, settings)
    known = {each.name: type(each.default) for each in settings}
    for key, value in given.items():
        kind = known[key]
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise UsageError(f"{what}: {key} is {value!r}, which is not of type {kind.__name__}")
        check_number(key, value, limits)


def check_choice(name: str, value: str, *offered: str) -> None:
    """See that a setting is one of the words that are offered.

    Raises:
        UsageError: it is not.
    """
    if value not in offered:
        raise UsageError(f"{name} is {value!r}; it can be {' or '.join(offered)}")


def check_names(what: str, given: Collection[str], settings: Sequence[Setting]) -> None:
    """See that settings of these names are there.

    Raises:
        UsageError: one is not.
    """
    known = [each.name for each in settings]
    for key in given:
        if key not in known:
            raise UsageError(f"{what} has no setting {key!r}; it has: {', '.join(known)}{did_you_mean(key, known)}")


def _of(taker: type[Any], without: Collection[str]) -> list[Setting]:
    texts = {name: text for each in (taker, taker.__init__) for name, text in _texts(each).items()}
    return [
        Setting(p.name, p.default, texts.get(p.name, ""))
        for p in inspect.signature(taker).parameters.values()
        if p.name not in without and p.kind is not p.VAR_KEYWORD
    ]


def _texts(described: Any) -> dict[str, str]:
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
