"""Command-line options made from the settings in `config`: one declaration, read by file and by flag.

A field `batch_size` becomes `--batch-size`, a positional field an argument, and a dictionary with the
prefix `method` takes `--method.NAME VALUE` for any name. Only what the user gave is returned, so that a
settings file can fill in the rest; whether all that is needed is there, `jcl.settings.load` finds out.
"""

import argparse
import dataclasses
import shutil
import tomllib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jcl import schema
from jcl.errors import UsageError

__all__ = ["Parser", "add_options", "collect", "split_prefixed", "usage"]


class Parser(argparse.ArgumentParser):
    """An argument parser that raises `UsageError`, with the nearest flag where one was misspelt."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"formatter_class": _Help, "allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        kind, _, rest = message.partition("unrecognized arguments: ")
        if not kind and rest:
            message = f"unknown: {rest}"
            flags = [flag for action in self._actions for flag in action.option_strings]
            message += schema.did_you_mean(rest.split()[0].split("=")[0], flags)
        raise UsageError(f"{message} (see {self.prog} --help)")


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal up to 100 columns, with text beside each flag from column 30 on."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=min(100, shutil.get_terminal_size().columns) - 2)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, argparse.BooleanOptionalAction):
            return f"--[no-]{action.option_strings[0].removeprefix('--')}"
        return super()._format_action_invocation(action)


def add_options(parser: argparse.ArgumentParser, kind: type[Any]) -> None:
    """Give `parser` an argument for every field of the dataclass `kind`, and those that all commands have."""
    hints = typing.get_type_hints(kind)
    needed = parser.add_argument_group("needed")
    optional = parser.add_argument_group("options")
    for field in dataclasses.fields(kind):
        if prefix := field.metadata.get("prefix"):
            optional.add_argument(
                f"--{prefix}.NAME",
                metavar="VALUE",
                dest=argparse.SUPPRESS,
                default=argparse.SUPPRESS,
                help=_help(field),
            )
        else:
            _add_option(
                needed if schema.is_required(field) or "positional" in field.metadata else optional,
                field,
                hints[field.name],
            )
    common = parser.add_argument_group("for every command")
    common.add_argument("--config", type=Path, metavar="FILE", help="settings from a TOML file; flags override them")
    common.add_argument("--print-config", action="store_true", help="print the settings as such a file, and stop")
    common.add_argument("-h", "--help", action="help", help="print this help, and stop")


def usage(prog: str, kind: type[Any]) -> str:
    """One line with what the command needs, in place of argparse's list of all flags."""
    fields = [f for f in dataclasses.fields(kind) if schema.is_required(f) or "positional" in f.metadata]
    hints = typing.get_type_hints(kind)
    places = [_metavar(f, hints[f.name]) + " …" * _is_list(hints[f.name]) for f in fields if "positional" in f.metadata]
    flags = [f"{_flag(f)} {_metavar(f, hints[f.name])}" for f in fields if "positional" not in f.metadata]
    return " ".join([prog, *places, *flags, "[options]"])


def split_prefixed(arguments: Sequence[str], kind: type[Any]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Take `--method.NAME VALUE` (or `=VALUE`) out of the arguments; returns the rest, and the settings by field.

    Raises:
        UsageError: a setting without a value.
    """
    prefixes = {f"--{p}.": f.name for f in dataclasses.fields(kind) if (p := f.metadata.get("prefix"))}
    rest: list[str] = []
    found: dict[str, dict[str, Any]] = {}
    waiting = iter(arguments)
    for argument in waiting:
        prefix = next((p for p in prefixes if argument.startswith(p)), None)
        if prefix is None:
            rest.append(argument)
            continue
        name, equals, text = argument.removeprefix(prefix).partition("=")
        value = text if equals else next(waiting, None)
        if value is None or not name:
            raise UsageError(f"{argument}: a value is needed, as {prefix}NAME VALUE")
        found.setdefault(prefixes[prefix], {})[name.replace("-", "_")] = _literal(value)
    return rest, found


def collect(parsed: argparse.Namespace, kind: type[Any]) -> dict[str, Any]:
    """The fields of `kind` that were given on the command line.

    Of several places of which the first takes any number, it has what the others leave, and one at least.
    """
    given: Mapping[str, Any] = vars(parsed)
    fields = [field for field in dataclasses.fields(kind) if field.name in given]
    # argparse gives a place its default, where another takes any number of values
    found = {field.name: given[field.name] for field in fields if str(given[field.name]) != argparse.SUPPRESS}
    places = [field for field in dataclasses.fields(kind) if "positional" in field.metadata]
    hints = typing.get_type_hints(kind)
    for field in (field for field in places if _is_list(hints[field.name]) and found.get(field.name)):
        values = list(found[field.name])
        for later in reversed(places[places.index(field) + 1 :]):
            if later.name not in found and len(values) > 1:
                found[later.name] = values.pop()
        found[field.name] = values[0] if len(values) == 1 and not _is_tuple(hints[field.name]) else values
    return found


def _add_option(group: Any, field: dataclasses.Field[Any], hint: Any) -> None:
    """One argument; without a value it leaves no trace, so that `collect` sees only what was given."""
    common = {"help": _help(field), "default": argparse.SUPPRESS}
    plain = schema.without_none(hint)
    if plain is bool:
        group.add_argument(_flag(field), action=argparse.BooleanOptionalAction, **common)
        return
    kind = schema.reader(typing.get_args(plain)[0] if _is_list(plain) else plain)
    common |= {"type": kind, "choices": field.metadata.get("choices"), "metavar": _metavar(field, hint)}
    if "positional" not in field.metadata:
        several = {"nargs": _count(plain) or "+", "action": "extend"} if _is_list(plain) else {}
        several = {"action": "append"} if field.metadata.get("repeat") else several
        flags = [field.metadata["short"]] if "short" in field.metadata else []
        group.add_argument(*flags, _flag(field), dest=field.name, **several, **common)
    else:
        # not insisted on here: --config may give them
        group.add_argument(field.name, nargs="*" if _is_list(plain) else "?", **common)


def _flag(field: dataclasses.Field[Any]) -> str:
    """That of its name, unless its flag is a word that Python has for itself."""
    return str(field.metadata.get("flag", "--" + field.name.replace("_", "-")))


def _metavar(field: dataclasses.Field[Any], hint: Any) -> Any:
    """One name for a value, or a tuple with one for each of several."""
    if "metavar" in field.metadata:
        return field.metadata["metavar"]
    if choices := field.metadata.get("choices"):
        return "{" + ",".join(choices) + "}"
    if "positional" in field.metadata:
        return field.name.removesuffix("s").upper() if _is_list(hint) else field.name.upper()
    names = {int: "N", float: "X", str: "NAME", Path: "PATH"}
    return names.get(schema.without_none(hint), "VALUE")


def _help(field: dataclasses.Field[Any]) -> str:
    """The field's help with its default, where there is one worth telling."""
    text = str(field.metadata["help"]).replace("%", "%%")
    untold = any(field.default is value for value in (dataclasses.MISSING, None, False, ()))
    return text if untold else f"{text} (default: {field.default})"


def _count(hint: Any) -> int | None:
    """How many values a tuple has; None for any number."""
    arguments = typing.get_args(hint)
    return len(arguments) if _is_tuple(hint) and arguments[-1] is not ... else None


def _is_list(hint: Any) -> bool:
    """Whether several values may be given: a tuple of X, or X or one of them."""
    return _is_tuple(hint) or any(_is_tuple(each) for each in typing.get_args(hint))


def _is_tuple(hint: Any) -> bool:
    return typing.get_origin(hint) is tuple


def _literal(text: str) -> Any:
    """Text as TOML reads it: a number, true or false (in any case), a list; else the text itself."""
    try:
        return tomllib.loads(f"value = {text.lower() if text.lower() in ('true', 'false') else text}")["value"]
    except (ValueError, RecursionError):  # not TOML, digits without end, nested too deeply
        return text
