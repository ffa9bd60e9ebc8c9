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
                      the paper's tables; or `row` and `column`, where the paper's columns are rows here), and
                      [methods.ROW.pretrain] and [methods.ROW.finetune] for what differs
[[tables]]            `name`, `title`, `methods` (rows), `pretrain_on` (stores), `finetune_on` (a store), `patients`
                      (columns, "all" is one too) or `splits` (column = "split"); `paper` and `paper_columns` name the
                      paper's table and, of our columns, its own (else those of the same name)
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from jcl.benchmark import known, values
from jcl.benchmark.paper import paper_columns, paper_tables
from jcl.config import FinetuneConfig, PrepareConfig, PretrainConfig
from jcl.errors import UsageError

__all__ = ["Column", "Method", "Recipe", "StoreSource", "TablePlan", "built_in", "read_recipe"]

NONE = "none"
"""The method of random weights."""

OFFERED = {"unlabelled": ("all", "training"), "unit": ("case", "slice")}

METHOD = ("method", "method_settings", "backbone", "width", "pretrain", "finetune", "paper")
TABLE = ("name", "title", "methods", "pretrain_on", "finetune_on", "patients", "splits", "paper", "paper_columns")
SIMPLE = ("title", "notes", "folds", "run_folds", "seeds", "pretrain_seed", "unlabelled", "unit")


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
    paper: str | Mapping[str, str] | None = None


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
    """Name -> file of the recipes that come with the package, table 10 after table 9."""
    folder = Path(str(files("jcl.benchmark"))) / "recipes"
    paths = sorted(folder.glob("*.toml"), key=lambda path: [part.zfill(3) for part in re.split(r"(\d+)", path.stem)])
    return {path.stem: path for path in paths}


def read_recipe(path_or_name: Path) -> Recipe:
    """A recipe from a file, or the built-in one of that name.

    Raises:
        UsageError: there is none, it is no TOML, or it says something that is not known or does not fit together.
    """
    path = path_or_name
    if not path.is_file():
        offered = built_in()
        if str(path_or_name) not in offered:
            raise UsageError(f"{path_or_name}: no recipe file, nor one of: {', '.join(offered)} (`jcl recipes`)")
        path = offered[str(path_or_name)]
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a TOML file ({error})") from error
    try:
        return _build(content, text)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _build(content: dict[str, Any], text: str) -> Recipe:
    values.check_keys("the recipe", content, {*SIMPLE, "stores", "pretrain", "finetune", "methods", "tables"})
    folds = values.integer("", content, "folds", 5)
    recipe = Recipe(
        title=values.text("", content, "title"),
        notes=values.text("", content, "notes", "").strip(),
        folds=folds,
        run_folds=values.integers("", content, "run_folds", range(folds)),
        seeds=values.integers("", content, "seeds", (0,)),
        pretrain_seed=values.integer("", content, "pretrain_seed", 0),
        unlabelled=values.text("", content, "unlabelled", "all"),
        unit=values.text("", content, "unit", "case"),
        stores={name: _store(name, entry) for name, entry in values.table_of_tables(content, "stores").items()},
        pretrain=values.settings("pretrain", content.get("pretrain", {}), PretrainConfig),
        finetune=values.settings("finetune", content.get("finetune", {}), FinetuneConfig),
        methods={name: _method(name, entry) for name, entry in values.table_of_tables(content, "methods").items()},
        tables=tuple(_table(entry) for entry in values.list_of_tables(content, "tables")),
        text=text,
    )
    _check(recipe)
    for table in recipe.tables:
        _check_table(recipe, table)
    papers = [table.paper for table in recipe.tables if table.paper is not None]
    for name, method in recipe.methods.items():
        if method.paper is not None:
            known.check_paper_row(f"methods.{name}", method.paper, papers)
    return recipe


def _store(name: str, entry: Mapping[str, Any]) -> StoreSource:
    where = f"stores.{name}"
    if "store" in entry:
        values.check_keys(where, entry, {"store"})
        return StoreSource(name=name, settings={}, store=values.text(where, entry, "store"))
    values.text(where, entry, "source")
    return StoreSource(name=name, settings=values.settings(where, entry, PrepareConfig, keep=("source",)))


def _method(name: str, entry: Mapping[str, Any]) -> Method:
    where = f"methods.{name}"
    values.check_keys(where, entry, METHOD)
    settings = entry.get("method_settings", {})
    if not isinstance(settings, dict):
        raise UsageError(f"{where}: method_settings is {settings!r}; a table of settings is needed")
    return Method(
        name=name,
        method=values.text(where, entry, "method"),
        method_settings=settings,
        backbone=values.text(where, entry, "backbone") if "backbone" in entry else None,
        width=values.integer(where, entry, "width") if "width" in entry else None,
        pretrain=values.settings(f"{where}.pretrain", entry.get("pretrain", {}), PretrainConfig),
        finetune=values.settings(f"{where}.finetune", entry.get("finetune", {}), FinetuneConfig),
        paper=_paper_row(where, entry),
    )


def _paper_row(where: str, entry: Mapping[str, Any]) -> str | Mapping[str, str] | None:
    if not isinstance(entry.get("paper"), dict):
        return values.text(where, entry, "paper") if "paper" in entry else None
    place = values.texts(where, entry, "paper")
    values.check_keys(f"{where}: paper", place, ("row", "column"))
    values.text(f"{where}: paper", place, "row")
    return place


def _table(entry: Mapping[str, Any]) -> TablePlan:
    where = f"table {entry.get('name', '?')}"
    values.check_keys(where, entry, TABLE)
    if ("patients" in entry) == ("splits" in entry):
        raise UsageError(f"{where}: either patients or splits are needed")
    columns = _patients(where, entry) if "patients" in entry else _splits(where, entry)
    paper = values.text(where, entry, "paper") if "paper" in entry else None
    same = [c.name for c in columns if paper in paper_tables() and c.name in paper_columns(str(paper))]
    return TablePlan(
        name=values.text(where, entry, "name"),
        title=values.text(where, entry, "title"),
        methods=values.names(where, entry, "methods"),
        pretrain_on=values.names(where, entry, "pretrain_on"),
        finetune_on=values.text(where, entry, "finetune_on"),
        columns=columns,
        paper=paper,
        paper_columns=values.texts(where, entry, "paper_columns") or {name: name for name in same},
    )


def _patients(where: str, entry: Mapping[str, Any]) -> tuple[Column, ...]:
    counts: Any = entry["patients"]
    if not isinstance(counts, list) or not counts or not all(_is_count(count) for count in counts):
        raise UsageError(f'{where}: patients has {counts!r}; a list of numbers from 1, or "all", is needed')
    columns = tuple(Column("all") if count == "all" else Column(f"M={count}", patients=count) for count in counts)
    if doubled := [column.name for column in columns if columns.count(column) > 1]:
        raise UsageError(f"{where}: patients has {doubled[0]} twice")
    return columns


def _is_count(count: Any) -> bool:
    return count == "all" or (type(count) is int and count >= 1)


def _splits(where: str, entry: Mapping[str, Any]) -> tuple[Column, ...]:
    splits = values.texts(where, entry, "splits")
    if not splits:
        raise UsageError(f"{where}: splits has none; a split for each column is needed")
    return tuple(Column(name, split=split) for name, split in splits.items())


def _check(recipe: Recipe) -> None:
    """What the parts say of each other, and of what there is."""
    for name, offered in OFFERED.items():
        if (value := getattr(recipe, name)) not in offered:
            raise UsageError(f"{name} is {value!r}; it is one of {', '.join(offered)}")
    if recipe.folds < 2:
        raise UsageError(f"folds is {recipe.folds}; at least 2 are needed")
    if wrong := [fold for fold in recipe.run_folds if not 0 <= fold < recipe.folds]:
        raise UsageError(f"run_folds has {wrong[0]}; with {recipe.folds} folds they are 0 to {recipe.folds - 1}")
    titles = [table.name for table in recipe.tables]
    if doubled := [name for name in titles if titles.count(name) > 1]:
        raise UsageError(f"two tables are called {doubled[0]}")
    for name, store in recipe.stores.items():
        known.check_dataset(f"stores.{name}", store.settings.get("dataset"))
    for part in ("pretrain", "finetune"):
        known.check_backbone(part, getattr(recipe, part).get("backbone"))
    for name, method in recipe.methods.items():
        where = f"methods.{name}"
        known.check_method(where, method.method, method.method_settings, none=NONE)
        known.check_backbone(where, method.backbone)


def _check_table(recipe: Recipe, table: TablePlan) -> None:
    where = f"table {table.name}"
    for name in table.methods:
        if name not in recipe.methods:
            raise UsageError(f"{where}: no [methods.{name}]; there are {', '.join(recipe.methods)}")
    for name in (*table.pretrain_on, table.finetune_on):
        if name not in recipe.stores:
            raise UsageError(f"{where}: no [stores.{name}]; there are {', '.join(recipe.stores)}")
    for column in table.columns:
        known.check_split(where, column.split)
    if unknown := set(table.paper_columns) - {column.name for column in table.columns}:
        raise UsageError(f"{where}: paper_columns has {min(unknown)!r}, which is no column of it")
    if table.paper is None and table.paper_columns:
        raise UsageError(f"{where}: paper_columns without paper, the name of the paper's table")
    if table.paper is not None:
        known.check_paper(where, table.paper, table.paper_columns.values())
