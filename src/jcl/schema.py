"""TOML tables against dataclasses: what keys and types there may be, and one line for whatever is wrong.

Settings of commands, recipes and data sets are frozen dataclasses. A field may be an int, float, str, bool, Path,
`Any`, `Literal`, `X | Y`, `X | None`, `tuple[X, ...]`, `tuple[X, Y]` or `dict[str, X]`, and its metadata may name
`choices`.
What else it may be, `Annotated[X, read]` says: `read(value, where)` returns the value, or raises `UsageError`.
"""

import contextlib
import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from jcl.errors import UsageError

__all__ = ["build", "check_table", "convert", "did_you_mean", "is_required", "read_toml", "reader", "without_none"]

Schema = TypeVar("Schema")

UNIONS = (types.UnionType, typing.Union)

NAMES: Mapping[Any, tuple[str, str]] = {
    int: ("an int", "ints"),
    float: ("a number", "numbers"),
    bool: ("a bool", "bools"),
    str: ("a string", "strings"),
    Path: ("a path", "paths"),
    dict: ("a table", "tables"),
}
"""One and several of a type, as TOML's users say it."""


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        UsageError: it is missing, or not TOML.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UsageError(f"{path}: is a pipe, a socket or a device, where a file is needed")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); check its name and permissions") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a TOML file (it is not text in UTF-8)") from error
    except RecursionError as error:
        raise UsageError(f"{path}: not a TOML file that can be read (nested too deeply)") from error
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        raise UsageError(f"{path}: not a TOML file ({error})") from error


def build(kind: type[Schema], table: Any, where: str = "", **given: Any) -> Schema:
    """The dataclass `kind` with the values of a table.

    Args:
        where: the place of the table, for messages: its file, or its key.
        given: fields that are not keys of the table.

    Raises:
        UsageError: a key is unknown or missing, or a value does not have its field's type.
    """
    values = {**check_table(kind, table, where, without=given), **given}
    fields = dataclasses.fields(kind)  # pyright: ignore[reportArgumentType]
    if missing := [f.name for f in fields if f.name not in values and is_required(f)]:
        raise UsageError(_at(where, f"missing: {', '.join(missing)}"))
    return kind(**values)


def check_table(kind: type[Any], table: Any, where: str = "", *, without: Collection[str] = ()) -> dict[str, Any]:
    """The values of a table that may have some of the fields of `kind`, but those in `without`; see `build`."""
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name not in without}
    values: dict[str, Any] = {}
    for key, value in convert(table, dict[str, Any], where).items():
        if key not in fields:
            known = f"(known: {', '.join(sorted(fields))})"
            raise UsageError(_at(where, f"unknown key {key!r}{did_you_mean(key, fields)} {known}"))
        choices = fields[key].metadata.get("choices")
        values[key] = convert(value, Literal[choices] if choices else hints[key], _at(where, key))
    return values


def convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the type `hint`: text becomes a path, an int a float, a list a tuple; else the type has to be right.

    Raises:
        UsageError: it is not of that type; `where` says which value it is.
    """
    if value is None and type(None) in typing.get_args(hint):
        return None
    hint = without_none(hint)
    if typing.get_origin(hint) in UNIONS:
        return _convert_to_one(value, typing.get_args(hint), where)
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is Annotated:
        return arguments[1](value, where)
    if origin is tuple and isinstance(value, (list, tuple)):
        items = cast("tuple[Any, ...]", value)
        hints = arguments[:1] * len(items) if arguments[-1] is ... else arguments
        if len(hints) == len(items):
            return tuple(convert(item, hints[n], f"{where}[{n}]") for n, item in enumerate(items))
    elif origin in (dict, Mapping) and isinstance(value, Mapping):
        entries = cast("Mapping[str, Any]", value)
        return {key: convert(entry, arguments[1], f"{where}.{key}") for key, entry in entries.items()}
    elif origin is Literal and value in arguments:
        return value
    elif origin is Path and isinstance(value, (str, Path)):
        return Path(value)
    elif origin is float and _is(value, int):
        return float(cast("int", value))
    elif origin is Any or _is(value, origin):
        return value
    raise UsageError(_at(where, f"{value!r:.80} is not {_name(origin, arguments)}"))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The known word that is nearest to an unknown one, as the end of a message; nothing where none is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""


def is_required(field: dataclasses.Field[Any]) -> bool:
    """Whether a field has to be given."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def without_none(hint: Any) -> Any:
    """X, of `X | None`; any other type as it is."""
    if typing.get_origin(hint) in UNIONS:
        kinds = tuple(argument for argument in typing.get_args(hint) if argument is not types.NoneType)
        return typing.Union[kinds]  # noqa: UP007 (of as many as there are)
    return hint


def reader(hint: Any) -> Callable[[str], Any]:
    """What makes a value of the type `hint` of a word of the command line; it raises ValueError where it cannot."""
    if typing.get_origin(hint) not in UNIONS:
        return hint
    kinds = typing.get_args(hint)

    def read(text: str) -> Any:
        for kind in kinds:
            if typing.get_origin(kind) is Literal:
                if text in typing.get_args(kind):
                    return text
                continue
            with contextlib.suppress(ValueError):
                return kind(text)
        raise ValueError(text)

    words = [typing.get_args(kind) if typing.get_origin(kind) is Literal else (kind.__name__,) for kind in kinds]
    read.__name__ = " or ".join(str(word) for some in words for word in some)  # argparse names it
    return read


def _convert_to_one(value: Any, kinds: tuple[Any, ...], where: str) -> Any:
    """The value as the first of several types that it can be."""
    for kind in kinds:
        try:
            return convert(value, kind, where)
        except UsageError:
            continue
    names = " or ".join(_name(typing.get_origin(kind) or kind, typing.get_args(kind)) for kind in kinds)
    raise UsageError(_at(where, f"{value!r:.80} is not {names}"))


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of a type; a bool is not an int."""
    return isinstance(kind, type) and isinstance(value, kind) and isinstance(value, bool) == (kind is bool)


def _name(origin: Any, arguments: tuple[Any, ...]) -> str:
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        number = "" if arguments[-1] is ... else f"{len(arguments)} "
        return f"a list of {number}{NAMES[typing.get_origin(arguments[0]) or arguments[0]][1]}"
    return NAMES[dict if origin is Mapping else origin][0]


def _at(where: str, text: str) -> str:
    return f"{where}: {text}" if where else text
