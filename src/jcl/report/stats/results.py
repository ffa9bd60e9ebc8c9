"""What a benchmark's folder holds, as tables of cells; a cell that is missing, failed or of other code says so."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jcl.benchmark.folder import DONE, FAILED, PLAN, RECIPE, RESULTS, TASK, task_folder
from jcl.benchmark.paper import PaperCell, paper_caption, paper_cell
from jcl.errors import DataError
from jcl.files import read_json

__all__ = ["BASELINE", "OURS", "Benchmark", "Cell", "Column", "Grid", "Pretraining", "Status", "read_benchmark"]

OURS, BASELINE = "JCL", "Random"
"""The row that is emphasised, and the one without pre-training; all others are compared with both."""

Status = str
"""`done`; `other code`: there are scores, of other sources than the last run of the benchmark had; `failed`;
`blocked`: its pre-training failed; `missing`: not run yet."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One fold and seed of a table's cell.

    `cases` is as `evaluate` writes it: one entry a test case, `{"case", "patient", "classes": {name: scores}}`;
    empty where there are no scores. `calibration` too; empty where an earlier version scored. `pooled` has the scores
    of all slices together (`jcl.pooled`), where the recipe asks for them. `folder` is the task's, see
    `jcl.benchmark.folder`; `start` the id of the pre-training's task.
    """

    fold: int
    seed: int
    task: str
    folder: Path
    status: Status
    error: str | None = None
    code: str | None = None
    seconds: float | None = None
    start: str | None = None
    cases: tuple[Mapping[str, Any], ...] = ()
    calibration: Mapping[str, Any] = field(default_factory=dict[str, Any])
    pooled: Mapping[str, Any] = field(default_factory=dict[str, Any])
    trust_code: bool = False


@dataclass(frozen=True)
class Column:
    """A column: its name, and the number of labelled patients where it stands for one."""

    name: str
    patients: int | None = None


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table: rows are methods; `cells` has the folds and seeds of (row, column), `paper` the published figure.

    `paper_title` is the name of the published table, `paper_caption` says what it is of, and `paper_columns` which of
    its columns stands beside which of ours.
    """

    name: str
    title: str
    store: str
    pretrain_on: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[Column, ...]
    cells: Mapping[tuple[str, str], tuple[Cell, ...]]
    paper: Mapping[tuple[str, str], PaperCell]
    paper_title: str | None = None
    paper_caption: str | None = None
    paper_columns: Mapping[str, str] = field(default_factory=dict[str, str])
    named_references: tuple[str, ...] = ()

    @property
    def references(self) -> tuple[str, ...]:
        """The rows that all others are compared with: those that the recipe names, else JCL and random weights."""
        return self.named_references or tuple(name for name in (OURS, BASELINE) if name in self.rows)

    @property
    def published(self) -> str:
        """The published table, as "table 1 (CHD, 68 patients)"."""
        number = re.match(r"table(\d+)_", self.paper_title or "")
        name = f"table {number[1] if number else self.paper_title}"
        return f"{name} ({self.paper_caption})" if self.paper_caption else name

    @property
    def published_of_other_data(self) -> bool:
        """Whether it is of other data than ours, as far as names say: the store's is in no caption or column."""
        theirs = " ".join([self.paper_caption or "", *self.paper_columns.values()]).lower()
        return not set(re.findall(r"[a-z0-9]{3,}", self.store.lower())) & set(re.findall(r"[a-z0-9]+", theirs))


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """A pre-training: `rows` are the names in the tables that it serves; `folder`/run/log.jsonl has its curves."""

    task: str
    label: str
    rows: tuple[str, ...]
    pretrain_on: tuple[str, ...]
    folder: Path
    status: Status
    error: str | None = None
    seconds: float | None = None
    trust_code: bool = False


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """All tables of a folder. `methods` has the settings of each row; `stores` path and class names of each store."""

    folder: Path
    title: str
    notes: str
    recipe: str
    methods: Mapping[str, Mapping[str, Any]]
    stores: Mapping[str, Mapping[str, Any]]
    tables: tuple[Grid, ...]
    pretrainings: tuple[Pretraining, ...]

    def store_path(self, name: str) -> Path:
        """Where a store lies."""
        return self.folder / str(self.stores[name]["path"])


def read_benchmark(folder: Path, *, trust_code: bool = False) -> Benchmark:
    """Everything that a report shows.

    Args:
        folder: of the benchmark.
        trust_code: see `jcl.backbones.rebuild`; for the networks that segment again.

    Raises:
        DataError: no benchmark's folder, or a file in it that cannot be read.
    """
    if not (folder / PLAN).is_file():
        raise DataError(f"{folder}: not a benchmark's folder (it has no {PLAN})")
    plan: dict[str, Any] = read_json(folder / PLAN)
    if any(key not in plan for key in ("tables", "tasks", "cells")):
        raise DataError(f"{folder}: not a benchmark's folder (its {PLAN} is of something else); give the --out of one")
    if plan.get("format") != 1:
        raise DataError(f"{folder}: a benchmark of format {plan.get('format')}; this jcl reads format 1")
    tasks = {str(task["id"]): task for task in plan["tasks"]}
    states = _States(folder, tasks, trust_code=trust_code)
    return Benchmark(
        folder=folder,
        title=plan["title"],
        notes=plan["notes"],
        recipe=_text(folder / RECIPE),
        methods=plan["methods"],
        stores=plan["stores"],
        tables=tuple(_grid(table, plan, states) for table in plan["tables"]),
        pretrainings=tuple(_pretraining(task, plan, states) for task in plan["tasks"] if task["kind"] == "pretrain"),
    )


class _States:
    """Where each task stands; the folders are read once."""

    def __init__(self, folder: Path, tasks: Mapping[str, Mapping[str, Any]], *, trust_code: bool) -> None:
        self.folder, self.tasks, self.trust_code = folder, tasks, trust_code
        self.found: dict[str, dict[str, Any]] = {}
        self.others = self._others()

    def _others(self) -> dict[str, Path]:
        """Finished tasks that the plan does not have, by what they are: the same, with other code."""
        others: dict[str, tuple[str, Path]] = {}
        for path in self.folder.glob(f"tasks/*/{DONE}"):
            if path.parent.name not in self.tasks and (path.parent / TASK).is_file():
                done = read_json(path)
                others[done["key"]] = max(others.get(done["key"], ("", path.parent)), (done["finished"], path.parent))
        return {key: path for key, (_, path) in others.items()}

    def of(self, task_id: str) -> dict[str, Any]:
        """`status`, `folder`, and what else is known."""
        if task_id not in self.found:
            self.found[task_id] = {**self._look(self.tasks[task_id]), "trust_code": self.trust_code}
        return self.found[task_id]

    def _look(self, task: Mapping[str, Any]) -> dict[str, Any]:
        folder = task_folder(self.folder, task["id"])
        if (folder / DONE).is_file():
            return {"status": "done", "folder": folder, **_known(read_json(folder / DONE))}
        failed = {}
        if (folder / FAILED).is_file():
            failed = {"status": "failed", "folder": folder, "error": str(read_json(folder / FAILED).get("error"))}
        elif task["needs"] and self.of(task["needs"])["status"] in ("failed", "blocked"):
            failed = {"status": "blocked", "folder": folder, "error": self.of(task["needs"]).get("error")}
        if task["key"] in self.others:
            other = self.others[task["key"]]
            return {**_known(read_json(other / DONE)), **failed, "status": "other code", "folder": other}
        return failed or {"status": "missing", "folder": folder}


def _known(done: Mapping[str, Any]) -> dict[str, Any]:
    return {"code": str(done["code"]), "seconds": float(done["seconds"])}


def _grid(table: Mapping[str, Any], plan: Mapping[str, Any], states: _States) -> Grid:
    columns = tuple(Column(column["name"], column["patients"]) for column in table["columns"])
    cells: dict[tuple[str, str], list[Cell]] = {(row, c.name): [] for row in table["methods"] for c in columns}
    for cell in plan["cells"]:
        if cell["table"] == table["name"]:
            cells[cell["row"], cell["column"]].append(_cell(cell, states))
    paper: dict[tuple[str, str], PaperCell] = {}
    for row in table["methods"]:
        for column, theirs in table["paper_columns"].items():
            found = paper_cell(table["paper"], plan["methods"][row]["paper"] or row, theirs)
            if found is not None:
                paper[row, column] = found
    return Grid(
        name=table["name"],
        title=table["title"],
        store=table["finetune_on"],
        pretrain_on=tuple(table["pretrain_on"]),
        rows=tuple(table["methods"]),
        columns=columns,
        cells={place: tuple(found) for place, found in cells.items()},
        paper=paper,
        paper_title=table["paper"],
        paper_caption=paper_caption(table["paper"]),
        paper_columns=table["paper_columns"],
        named_references=tuple(table.get("references", ())),
    )


def _cell(cell: Mapping[str, Any], states: _States) -> Cell:
    state = states.of(cell["task"])
    results: dict[str, Any] = {"cases": ()}
    if state["status"] in ("done", "other code"):
        results = read_json(state["folder"] / RESULTS)
    start = states.tasks[cell["task"]]["needs"]
    scored = {"cases": tuple(results["cases"]), **{key: results.get(key, {}) for key in ("calibration", "pooled")}}
    return Cell(fold=cell["fold"], seed=cell["seed"], task=cell["task"], start=start, **scored, **state)


def _pretraining(task: Mapping[str, Any], plan: Mapping[str, Any], states: _States) -> Pretraining:
    served = {t["id"] for t in plan["tasks"] if t["needs"] == task["id"]}
    rows = dict.fromkeys(cell["row"] for cell in plan["cells"] if cell["task"] in served)
    state = {key: value for key, value in states.of(task["id"]).items() if key != "code"}
    stores = tuple(task["settings"]["stores"])
    return Pretraining(task=task["id"], label=task["label"], rows=tuple(rows), pretrain_on=stores, **state)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
