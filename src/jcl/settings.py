"""Settings of a stage as plain values: read from TOML and overridden from the command line, and written again."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from jcl import schema
from jcl.errors import UsageError, foreign_code
from jcl.limits import check_numbers

__all__ = ["as_mapping", "as_toml", "defaults", "load"]

Config = TypeVar("Config")


def load(kind: type[Config], path: Path | None, overrides: Mapping[str, Any]) -> Config:
    """Settings from a TOML file (if any), overridden by `overrides`, checked and converted.

    Raises:
        UsageError: the file is missing or no TOML, a key is unknown or missing, or a value does
            not have its field's type or is a number that cannot be meant.
    """
    values = schema.check_table(kind, schema.read_toml(path), str(path)) if path else {}
    if path:
        _check_code(values, overrides, path)
    settings = schema.build(kind, {**values, **overrides})
    check_numbers(settings)
    return settings


def _check_code(values: Mapping[str, Any], overrides: Mapping[str, Any], path: Path) -> None:
    """Raises UsageError where a file says which code is imported, or allows it: only the user does, by typing it."""
    if values.get("trust_code"):
        raise UsageError(f"{path}: trust_code is not for files; type --trust-code")
    for key, what in (("backbone", "network"), ("method", "method")):
        name = None if key in overrides else values.get(key)
        if isinstance(name, str) and ":" in name and not overrides.get("trust_code"):
            raise foreign_code(path, what, name)


def as_mapping(config: Any) -> dict[str, Any]:
    """The settings as plain values that JSON and TOML can hold."""
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


def as_toml(config: Any) -> str:
    """The settings as a TOML file that `load` reads back; a setting that is None is commented out."""
    lines: list[str] = []
    tables: list[str] = []
    for name, value in as_mapping(config).items():
        if isinstance(value, dict):
            entries = cast("dict[str, Any]", value)
            tables += [f"[{name}]", *(f"{key} = {_toml(entry)}" for key, entry in entries.items())]
        else:
            lines.append(f"# {name} =" if value is None else f"{name} = {_toml(value)}")
    return "\n".join(lines + tables) + "\n"


def defaults(kind: type[Any]) -> dict[str, Any]:
    """The settings of a stage that need not be given, as plain values."""
    optional = [f for f in dataclasses.fields(kind) if not schema.is_required(f)]
    return {f.name: _plain({} if f.default is dataclasses.MISSING else f.default) for f in optional}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in cast("tuple[Any, ...]", value)]
    return value


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in cast("list[Any]", value)) + "]"
    # JSON writes text, numbers and bools as TOML does, but not inf and nan
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
