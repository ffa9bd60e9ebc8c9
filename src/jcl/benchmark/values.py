"""Values of a TOML table, each of the kind that is needed, or an error that names it."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, cast

from jcl import config
from jcl.errors import UsageError

__all__ = [
    "check_keys",
    "integer",
    "integers",
    "list_of_tables",
    "names",
    "settings",
    "table_of_tables",
    "text",
    "texts",
]

GIVEN = frozenset(
    (
        *("out", "source", "store", "stores", "init", "resume", "patients", "fold", "folds", "split", "seed"),
        *("method", "method_settings", "strict"),
    )
)
"""Settings of a stage that the benchmark itself gives."""

Table = Mapping[str, Any]


def check_keys(where: str, values: Table, known: Collection[str]) -> None:
    """Check that a table has none but known keys."""
    if unknown := set(values) - set(known):
        raise UsageError(f"{where} has {min(unknown)!r}, which is not known; known: {', '.join(sorted(known))}")


def text(where: str, values: Table, key: str, default: str | None = None) -> str:
    """A text; without a default it has to be there."""
    return cast("str", _value(where, values, key, str, "a text in quotes", default))


def integer(where: str, values: Table, key: str, default: int | None = None) -> int:
    """A whole number; without a default it has to be there."""
    return cast("int", _value(where, values, key, int, "a whole number", default))


def integers(where: str, values: Table, key: str, default: Collection[int]) -> tuple[int, ...]:
    """A list of whole numbers, at least one and none twice."""
    return _several(where, values, key, int, "a list of whole numbers", list(default))


def names(where: str, values: Table, key: str) -> tuple[str, ...]:
    """A list of texts, at least one and none twice."""
    return _several(where, values, key, str, "a list of names")


def texts(where: str, values: Table, key: str) -> dict[str, str]:
    """A table of texts, empty where there is none."""
    entries = values.get(key, {})
    if not isinstance(entries, dict) or not all(isinstance(v, str) for v in cast("Table", entries).values()):
        raise UsageError(f"{_at(where, key)} is {entries!r}; a table of texts is needed")
    return dict(cast("Mapping[str, str]", entries))


def table_of_tables(values: Table, key: str) -> dict[str, dict[str, Any]]:
    """[key.NAME], at least one."""
    value = values.get(key)
    if not isinstance(value, dict) or not all(isinstance(v, dict) for v in cast("Table", value).values()):
        raise UsageError(f"[{key}.NAME] is needed, a table for each")
    return cast("dict[str, dict[str, Any]]", value)


def list_of_tables(values: Table, key: str) -> list[dict[str, Any]]:
    """[[key]], at least one."""
    value = values.get(key)
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in cast("list[Any]", value)):
        raise UsageError(f"[[{key}]] is needed, one for each")
    return cast("list[dict[str, Any]]", value)


def settings(where: str, entry: Any, kind: type[Any], keep: Collection[str] = ()) -> dict[str, Any]:
    """Settings of a stage, of the types and among the choices that it takes; without those the benchmark gives."""
    if not isinstance(entry, dict):
        raise UsageError(f"{where} is {entry!r}; a table of settings is needed")
    values = cast("dict[str, Any]", entry)
    fields: dict[str, dataclasses.Field[Any]] = {f.name: f for f in dataclasses.fields(kind)}
    check_keys(where, values, (set(fields) - GIVEN) | set(keep))
    needed = {name: [] if name == "stores" else "" for name in fields.keys() - config.defaults(kind)}
    try:
        config.load(kind, None, {**needed, **values})
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    for name, value in values.items():
        choices: tuple[str, ...] | None = fields[name].metadata.get("choices")
        if choices and value not in choices:
            raise UsageError(f"{where}: {name} is {value!r}; it is one of {', '.join(choices)}")
    return dict(values)


def _value(where: str, values: Table, key: str, kind: type[Any], needed: str, default: Any) -> Any:
    value = values.get(key, default)
    if not isinstance(value, kind) or isinstance(value, bool):
        said = f"is {value!r}" if key in values else "is missing"
        raise UsageError(f"{_at(where, key)} {said}; {needed} is needed")
    return value


def _several(
    where: str, values: Table, key: str, kind: type[Any], needed: str, default: list[Any] | None = None
) -> tuple[Any, ...]:
    value = values.get(key, default)
    if not isinstance(value, list) or not value or not all(type(v) is kind for v in cast("list[Any]", value)):
        said = f"is {value!r}" if key in values else "is missing"
        raise UsageError(f"{_at(where, key)} {said}; {needed} is needed")
    found = cast("list[Any]", value)
    if doubled := [each for each in found if found.count(each) > 1]:
        raise UsageError(f"{_at(where, key)} has {doubled[0]!r} twice")
    return tuple(found)


def _at(where: str, key: str) -> str:
    return f"{where}: {key}" if where else key
