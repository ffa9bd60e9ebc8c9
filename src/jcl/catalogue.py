"""What there is to choose from: methods with their settings, and backbones."""

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from jcl import backbones, methods

__all__ = ["describe_settings", "show_backbones", "show_methods"]


def show_methods(name: str | None) -> None:
    """Print all methods, or the settings of one.

    Raises:
        UsageError: there is no such method.
    """
    if name is None:
        _print(("method", "what it is"), [(each, _summary(methods.load(each))) for each in methods.available()])
        print("`jcl methods NAME` shows a method's settings.")
        return
    build = methods.load(name)
    print(f"{_summary(build)}\n")
    rows = [
        ("--method." + key.replace("_", "-"), _shown(default), text) for key, default, text in describe_settings(build)
    ]
    _print(("setting", "default", "meaning"), rows)


def show_backbones(name: str | None = None) -> None:
    """Print all segmentation networks."""
    _print(("backbone", "what it is"), [(each, _summary(backbones.load(each))) for each in backbones.available()])


def describe_settings(build: Callable[..., Any]) -> list[tuple[str, Any, str]]:
    """Name, default and meaning of a method's settings, from its constructor and that one's docstring."""
    constructor = build.__init__ if isinstance(build, type) else build
    texts = _argument_texts(inspect.getdoc(constructor) or "")
    parameters = [p for p in inspect.signature(build).parameters.values() if p.name != "backbone"]
    return [(p.name, p.default, texts.get(p.name, "")) for p in parameters]


def _argument_texts(docstring: str) -> dict[str, str]:
    """What a Google-style docstring says of each argument; indented lines go on with the last one."""
    section = re.search(r"^Args:\n((?:[ ]+.*\n?|\n)+)", docstring, re.MULTILINE)
    texts: dict[str, str] = {}
    name = None
    for line in section[1].splitlines() if section else []:
        if entry := re.match(r" {4}(\w+): (.*)", line):
            name, texts[entry[1]] = entry[1], entry[2]
        elif name and line.strip():
            texts[name] += " " + line.strip()
    return texts


def _summary(thing: Any) -> str:
    """The first line of the module's docstring, which quotes the paper."""
    documentation = inspect.getdoc(inspect.getmodule(thing)) or ""
    return documentation.partition("\n")[0]


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _print(head: Iterable[str], rows: Iterable[tuple[str, ...]]) -> None:
    table = Table(*head, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*row)
    Console(soft_wrap=False, highlight=False, markup=False).print(table)
