"""Recipes: which methods are pre-trained and fine-tuned on which data, as a TOML file.

title, notes          what it is, and what was cut
folds, run_folds      number of folds by patient, and which of them are run (else all)
seeds                 seeds of the fine-tunings
pretrain_seed         seed of the pre-trainings
unlabelled            `all`: pre-training sees the images of all patients, as the paper has it; `training`: only those
                      of the training part, one pre-training a fold
unit                  `case` or `slice`: what is scored
[stores.NAME]         settings of `jcl prepare`, `source` being a folder below --data; or `store`, one that is ready
[pretrain]            settings of every `jcl pretrain`
[finetune]            settings of every `jcl finetune`
[methods.ROW]         `method` (`none` for random weights), `method_settings`, `backbone`, `width`, `paper` (its row in
                      the paper's tables), and [methods.ROW.pretrain] and [methods.ROW.finetune] for what differs
[[tables]]            `name`, `title`, `methods` (rows), `pretrain_on` (stores), `finetune_on` (a store), `patients`
                      (columns, "all" is one too) or `splits` (column = "split"); `paper` and `paper_columns` name the
                      paper's table and, of our columns, its own
"""

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from jcl.config import FinetuneConfig, PrepareConfig, PretrainConfig
from jcl.errors import UsageError

__all__ = ["Column", "Method", "Recipe", "StoreSource", "TablePlan", "built_in", "read_recipe"]

NONE = "none"
"""The method of random weights."""

OFFERED = {"unlabelled": ("all", "training"), "unit": ("case", "slice")}


@dataclass(frozen=True, kw_only=True)
class StoreSource:
    """Where a store comes from: `settings` of prepare (with `source`), or a store that is ready."""

    name: str
    settings: Mapping[str, Any]
    store: str | None = None


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row: a pre-training and what differs in its settings."""

    name: str
    method: str
    method_settings: Mapping[str, Any] = field(default_factory=dict)
    backbone: str | None = None
    width: int | None = None
    pretrain: Mapping[str, Any] = field(default_factory=dict)
    finetune: Mapping[str, Any] = field(default_factory=dict)
    paper: str | None = None


@dataclass(frozen=True)
class Column:
    """A number of labelled patients (None for all of the fold), or a fixed split."""

    name: str
    patients: int | None = None
    split: str | None = None


@dataclass(frozen=True, kw_only=True)
class TablePlan:
    """A table: rows x columns, each cell the mean over folds and seeds."""

    name: str
    title: str
    methods: tuple[str, ...]
    pretrain_on: tuple[str, ...]
    finetune_on: str
    columns: tuple[Column, ...]
    paper: str | None = None
    paper_columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that a recipe says, checked."""

    title: str
    notes: str
    folds: int
    run_folds: tuple[int, ...]
    seeds: tuple[int, ...]
    pretrain_seed: int
    unlabelled: str
    unit: str
    stores: Mapping[str, StoreSource]
    pretrain: Mapping[str, Any]
    finetune: Mapping[str, Any]
    methods: Mapping[str, Method]
    tables: tuple[TablePlan, ...]
    text: str


def built_in() -> dict[str, Path]:
    """Name -> file of the recipes that come with the package."""
    folder = Path(str(files("jcl.benchmark"))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_recipe(path_or_name: Path) -> Recipe:
    """A recipe from a file, or the built-in one of that name.

    Raises:
        UsageError: there is none, it is no TOML, or it says something that is not known or does not fit together.
    """
    path = path_or_name
    if not path.is_file():
        known = built_in()
        if str(path_or_name) not in known:
            raise UsageError(f"{path_or_name}: no recipe file, nor one of: {', '.join(known)} (`jcl recipes`)")
        path = known[str(path_or_name)]
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a TOML file ({error})") from error
    try:
        return _build(values, text)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _build(values: dict[str, Any], text: str) -> Recipe:
    simple = {"title", "notes", "folds", "run_folds", "seeds", "pretrain_seed", "unlabelled", "unit"}
    _check_keys("the recipe", values, simple | {"stores", "pretrain", "finetune", "methods", "tables"})
    folds = _typed(values, "folds", int, 5)
    recipe = Recipe(
        title=_typed(values, "title", str),
        notes=_typed(values, "notes", str, "").strip(),
        folds=folds,
        run_folds=_numbers(values, "run_folds", range(folds)),
        seeds=_numbers(values, "seeds", (0,)),
        pretrain_seed=_typed(values, "pretrain_seed", int, 0),
        unlabelled=_typed(values, "unlabelled", str, "all"),
        unit=_typed(values, "unit", str, "case"),
        stores={name: _store(name, entry) for name, entry in _tables(values, "stores").items()},
        pretrain=_settings("pretrain", values.get("pretrain", {}), PretrainConfig),
        finetune=_settings("finetune", values.get("finetune", {}), FinetuneConfig),
        methods={name: _method(name, entry) for name, entry in _tables(values, "methods").items()},
        tables=tuple(_table(entry) for entry in _list(values, "tables")),
        text=text,
    )
    _check(recipe)
    return recipe


def _store(name: str, entry: Mapping[str, Any]) -> StoreSource:
    where = f"stores.{name}"
    if "store" in entry:
        _check_keys(where, entry, {"store"})
        return StoreSource(name=name, settings={}, store=_typed(entry, "store", str))
    _typed(entry, "source", str)
    return StoreSource(name=name, settings=_settings(where, entry, PrepareConfig, keep=("source",)))


def _method(name: str, entry: Mapping[str, Any]) -> Method:
    where = f"methods.{name}"
    _check_keys(where, entry, {f.name for f in dataclasses.fields(Method)} - {"name"})
    _typed(entry, "method", str)
    parts = {"pretrain": PretrainConfig, "finetune": FinetuneConfig}
    settings = {part: _settings(f"{where}.{part}", entry.get(part, {}), kind) for part, kind in parts.items()}
    return Method(**{**entry, "name": name, **settings})


def _table(entry: Mapping[str, Any]) -> TablePlan:
    where = f"table {entry.get('name', '?')}"
    keys = {"name", "title", "methods", "pretrain_on", "finetune_on", "patients", "splits", "paper", "paper_columns"}
    _check_keys(where, entry, keys)
    if ("patients" in entry) == ("splits" in entry):
        raise UsageError(f"{where}: either patients or splits are needed")
    columns = [_column(count, where) for count in entry.get("patients", [])]
    columns += [Column(name, split=split) for name, split in dict(entry.get("splits", {})).items()]
    return TablePlan(
        name=_typed(entry, "name", str),
        title=_typed(entry, "title", str),
        methods=_names(entry, "methods"),
        pretrain_on=_names(entry, "pretrain_on"),
        finetune_on=_typed(entry, "finetune_on", str),
        columns=tuple(columns),
        paper=entry.get("paper"),
        paper_columns=dict(entry.get("paper_columns", {})),
    )


def _column(count: Any, where: str) -> Column:
    if count == "all":
        return Column("all")
    if not isinstance(count, int) or count < 1:
        raise UsageError(f'{where}: patients has {count!r}; numbers from 1, or "all", are needed')
    return Column(f"M={count}", patients=count)


def _check(recipe: Recipe) -> None:
    """What the parts say of each other."""
    for name, offered in OFFERED.items():
        if (value := getattr(recipe, name)) not in offered:
            raise UsageError(f"{name} is {value!r}; it is one of {', '.join(offered)}")
    if wrong := [fold for fold in recipe.run_folds if not 0 <= fold < recipe.folds]:
        raise UsageError(f"run_folds has {wrong[0]}; with {recipe.folds} folds they are 0 to {recipe.folds - 1}")
    if not recipe.tables:
        raise UsageError("no [[tables]]")
    names = [table.name for table in recipe.tables]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"two tables are called {doubled.pop()}")
    for table in recipe.tables:
        for name in table.methods:
            if name not in recipe.methods:
                raise UsageError(f"table {table.name}: no [methods.{name}]; there are {', '.join(recipe.methods)}")
        for name in (*table.pretrain_on, table.finetune_on):
            if name not in recipe.stores:
                raise UsageError(f"table {table.name}: no [stores.{name}]; there are {', '.join(recipe.stores)}")
        if unknown := set(table.paper_columns) - {column.name for column in table.columns}:
            raise UsageError(f"table {table.name}: paper_columns has {unknown.pop()!r}, which is no column of it")


def _settings(where: str, entry: Any, kind: type[Any], keep: Sequence[str] = ()) -> dict[str, Any]:
    """Settings of a stage; those that the benchmark itself gives are not taken."""
    given = {"out", "source", "store", "stores", "init", "resume", "patients", "fold", "folds", "split", "seed"}
    given |= {"method", "method_settings", "strict"}
    if not isinstance(entry, dict):
        raise UsageError(f"{where} is no table of settings")
    values = cast("dict[str, Any]", entry)
    _check_keys(where, values, {f.name for f in dataclasses.fields(kind)} - given | set(keep))
    return dict(values)


def _check_keys(where: str, values: Mapping[str, Any], known: set[str]) -> None:
    if unknown := set(values) - known:
        raise UsageError(f"{where} has {min(unknown)!r}, which is not known; known: {', '.join(sorted(known))}")


def _typed(values: Mapping[str, Any], key: str, kind: type[Any], default: Any = None) -> Any:
    value = values.get(key, default)
    if not isinstance(value, kind) or isinstance(value, bool):
        said = f"{key} is {value!r}" if key in values else f"{key} is missing"
        raise UsageError(f"{said}; {'a text' if kind is str else 'a whole number'} is needed")
    return value


def _numbers(values: Mapping[str, Any], key: str, default: Sequence[int]) -> tuple[int, ...]:
    value = values.get(key, list(default))
    if not isinstance(value, list) or not value or not all(type(v) is int for v in cast("list[Any]", value)):
        raise UsageError(f"{key} is {value!r}; a list of whole numbers is needed")
    return tuple(cast("list[int]", value))


def _names(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = values.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in cast("list[Any]", value)):
        raise UsageError(f"table {values.get('name', '?')}: {key} is {value!r}; a list of names is needed")
    return tuple(cast("list[str]", value))


def _tables(values: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    value = values.get(key)
    if not isinstance(value, dict) or not all(isinstance(v, dict) for v in cast("dict[str, Any]", value).values()):
        raise UsageError(f"[{key}.NAME] is needed, a table for each")
    return cast("dict[str, dict[str, Any]]", value)


def _list(values: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = values.get(key, [])
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in cast("list[Any]", value)):
        raise UsageError(f"[[{key}]] is needed, one for each")
    return cast("list[dict[str, Any]]", value)
