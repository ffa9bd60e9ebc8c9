"""Recipes: which methods are pre-trained and fine-tuned on which data, as a TOML file.

title, notes          what it is, and what was cut
folds, run_folds      number of folds by patient, or `authors` (the JCL authors' five), and which are run (else all)
seeds                 seeds of the fine-tunings
pretrain_seed         seed of the pre-trainings, or `each`: every seed of `seeds` has pre-trainings of its own
unlabelled            `all`: pre-training sees the images of all patients, as the paper has it; `training`: only those
                      of the training part, one pre-training a fold
unit                  `case` or `slice`: what is scored; `pooled`: all slices together, as the JCL authors do
[stores.NAME]         settings of `jcl prepare`, `source` being a folder below --data; or `store`, one that is ready
[pretrain]            settings of every `jcl pretrain`
[finetune]            settings of every `jcl finetune`; `semi` and a table `semi_settings` are among them
[methods.ROW]         `method` (`none` for random weights), `method_settings`, `backbone`, `width`, `paper` (its row in
                      the paper's tables; or `row` and `column`, where the paper's columns are rows here), and
                      [methods.ROW.pretrain] and [methods.ROW.finetune] for what differs
[[tables]]            `name`, `title`, `methods` (rows), `pretrain_on` (stores), `finetune_on` (a store), `patients`
                      (columns, "all" is one too) or `splits` (column = "split"); `paper` and `paper_columns` name the
                      paper's table and, of our columns, its own (else those of the same name); `references` are the
                      rows that the report compares all others with; `pretrain` and `finetune` settings of its trainings
                      that differ from those of other tables
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from jcl import schema
from jcl.benchmark.paper import paper_columns, paper_tables
from jcl.config import FinetuneConfig, Folds, PrepareConfig, PretrainConfig
from jcl.errors import UsageError

__all__ = ["NONE", "Column", "Method", "Recipe", "StoreSource", "TablePlan"]

NONE = "none"
"""The method of random weights."""

GIVEN = frozenset(
    (
        *("out", "source", "store", "stores", "init", "resume", "patients", "fold", "folds", "split", "seed"),
        *("method", "method_settings", "strict", "allow_seen", "trust_code", "unlabelled"),
    )
)
"""Settings of a stage that the benchmark itself gives."""

OF_ROWS = frozenset(("backbone", "width", "context", "block", "semi", "semi_settings", "split_seed"))
"""Settings that belong to a row, or to all of a recipe: tables do not have them."""


def _settings(kind: type[Any], value: Any, where: str) -> dict[str, Any]:
    """Settings of a stage as they were written, so that what was done with them before is found again."""
    schema.check_table(kind, value, where, without=GIVEN)
    return value


def _settings_of_table(kind: type[Any], value: Any, where: str) -> dict[str, Any]:
    """Likewise, of a table: without what makes a network or a row another."""
    schema.check_table(kind, value, where, without=GIVEN | OF_ROWS)
    return value


def _distinct(kind: Any, value: Any, where: str) -> tuple[Any, ...]:
    """A list of at least one, and none twice."""
    found = schema.convert(value, kind, where)
    if not found:
        raise UsageError(f"{where} is empty; at least one is needed")
    if doubled := [each for each in found if found.count(each) > 1]:
        raise UsageError(f"{where} has {doubled[0]!r} twice")
    return found


def _patients(value: Any, where: str) -> tuple[int | str, ...]:
    counts = _distinct(tuple[Any, ...], value, where)
    if wrong := [n for n in counts if n != "all" and (type(n) is not int or n < 1)]:
        raise UsageError(f'{where} has {wrong[0]!r}; numbers from 1, or "all", are needed')
    return counts


def _paper_row(value: Any, where: str) -> str | dict[str, str]:
    if not isinstance(value, dict):
        return schema.convert(value, str, where)
    schema.build(_PaperRow, value, where)
    return value


Ints = Annotated[tuple[int, ...], partial(_distinct, tuple[int, ...])]
Names = Annotated[tuple[str, ...], partial(_distinct, tuple[str, ...])]
PretrainSettings = Annotated[Mapping[str, Any], partial(_settings, PretrainConfig)]
FinetuneSettings = Annotated[Mapping[str, Any], partial(_settings, FinetuneConfig)]


@dataclass(frozen=True, kw_only=True)
class _PaperRow:
    row: str
    column: str | None = None


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
    pretrain: PretrainSettings = field(default_factory=dict)
    finetune: FinetuneSettings = field(default_factory=dict)
    paper: Annotated[str | Mapping[str, str] | None, _paper_row] = None


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
    methods: Names
    pretrain_on: Names
    finetune_on: str
    patients: Annotated[tuple[int | str, ...], _patients] = ()
    splits: Mapping[str, str] = field(default_factory=dict)
    paper: str | None = None
    paper_columns: Mapping[str, str] = field(default_factory=dict)
    references: Names = ()
    pretrain: Annotated[Mapping[str, Any], partial(_settings_of_table, PretrainConfig)] = field(default_factory=dict)
    finetune: Annotated[Mapping[str, Any], partial(_settings_of_table, FinetuneConfig)] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[Column, ...]:
        """A column for each number of patients, or for each split."""
        counts = (Column(f"M={n}", patients=n) if isinstance(n, int) else Column(n) for n in self.patients)
        return (*counts, *(Column(name, split=split) for name, split in self.splits.items()))

    def as_mapping(self) -> dict[str, Any]:
        """The table as JSON holds it."""
        columns = {"columns": [dataclasses.asdict(column) for column in self.columns]}
        # benchmarks that were begun before there were these know none
        seldom = tuple(name for name in ("references", "pretrain", "finetune") if not getattr(self, name))
        return {key: value for key, value in vars(self).items() if key not in ("patients", "splits", *seldom)} | columns


def _stores(value: Any, where: str) -> dict[str, StoreSource]:
    entries = schema.convert(value, dict[str, dict[str, Any]], where)
    return {name: _store(name, entry, f"{where}.{name}") for name, entry in entries.items()}


def _store(name: str, entry: Mapping[str, Any], where: str) -> StoreSource:
    if "store" in entry:
        return schema.build(StoreSource, entry, where, name=name, settings={})
    schema.check_table(PrepareConfig, entry, where, without=GIVEN - {"source"})
    if "source" not in entry:
        raise UsageError(f"{where}: missing: source, or store")
    if Path(str(entry["source"])).is_absolute() or ".." in Path(str(entry["source"])).parts:
        raise UsageError(f"{where}: source is {entry['source']!r}; give a folder below --data, without ..")
    return StoreSource(name=name, settings=entry)


def _methods(value: Any, where: str) -> dict[str, Method]:
    entries = schema.convert(value, dict[str, dict[str, Any]], where)
    return {name: schema.build(Method, entry, f"{where}.{name}", name=name) for name, entry in entries.items()}


def _tables(value: Any, where: str) -> tuple[TablePlan, ...]:
    entries = schema.convert(value, tuple[dict[str, Any], ...], where)
    return tuple(_table(entry, f"table {entry.get('name', '?')}") for entry in entries)


def _table(entry: dict[str, Any], where: str) -> TablePlan:
    table = schema.build(TablePlan, entry, where)
    if bool(table.patients) == bool(table.splits):
        raise UsageError(f"{where}: either patients or splits are needed")
    offered = paper_columns(table.paper) if table.paper in paper_tables() else ()
    same = {column.name: column.name for column in table.columns if column.name in offered}
    return dataclasses.replace(table, paper_columns=table.paper_columns or same)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that a recipe says, checked."""

    title: str
    notes: str = ""
    folds: Folds = 5
    run_folds: Ints = ()
    seeds: Ints = (0,)
    pretrain_seed: int | Literal["each"] = 0
    unlabelled: Literal["all", "training"] = "all"
    unit: Literal["case", "slice", "pooled"] = "case"
    stores: Annotated[Mapping[str, StoreSource], _stores]
    pretrain: PretrainSettings = field(default_factory=dict)
    finetune: FinetuneSettings = field(default_factory=dict)
    methods: Annotated[Mapping[str, Method], _methods]
    tables: Annotated[tuple[TablePlan, ...], _tables]
    text: str

    def seed_of_pretraining(self, seed: int) -> int:
        """The seed of the pre-training that a fine-tuning of that seed starts from."""
        return seed if self.pretrain_seed == "each" else int(self.pretrain_seed)
