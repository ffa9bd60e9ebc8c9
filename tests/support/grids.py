"""Tables of a benchmark with scores that are given by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from jcl.benchmark.paper import PaperCell
from jcl.metrics import METRICS
from jcl.report.stats.results import Benchmark, Cell, Column, Grid, Pretraining


def case(patient: str, *values: float | None, name: str | None = None, **more: object) -> dict:
    """A case whose classes A, B, ... have the value in every metric (so it is a Dice and a distance at once)."""
    classes = {"ABC"[k]: dict.fromkeys(METRICS, value) for k, value in enumerate(values)}
    return {"case": name or patient, "patient": patient, "classes": classes, **more}


def cell(fold: int, cases: Sequence[Mapping] = (), *, seed: int = 0, status: str | None = None, **more: object) -> Cell:
    state = status or ("done" if cases else "missing")
    seconds = 60.0 if cases else None
    settings = {"task": f"task-{fold}-{seed}", "folder": Path("tasks"), "seconds": seconds, **more}
    return Cell(fold=fold, seed=seed, status=state, cases=tuple(cases), **settings)  # type: ignore[arg-type]


def grid(
    cells: Mapping[tuple[str, str], Sequence[Cell]], paper: Mapping[tuple[str, str], PaperCell] | None = None
) -> Grid:
    """Rows and columns in the order in which they come; a column `M=2` is one of two patients."""
    columns = dict.fromkeys(column for _, column in cells)
    return Grid(
        name="t1",
        title="First table",
        store="heart",
        pretrain_on=("heart",),
        rows=tuple(dict.fromkeys(row for row, _ in cells)),
        columns=tuple(Column(name, int(name[2:]) if name.startswith("M=") else None) for name in columns),
        cells={
            (row, column): tuple(_own(f"{row} {column}", each) for each in found)
            for (row, column), found in cells.items()
        },
        paper=paper or {},
        paper_title="table1_chd" if paper else None,
        paper_caption="CHD, 68 patients" if paper else None,
        paper_columns={column: f"M={5 + int(column[2:])}" for _, column in paper or {}},
    )


def _own(place: str, cell: Cell) -> Cell:
    """The cell with a task of its own, unless it was given one."""
    return replace(cell, task=f"{place} {cell.task}") if cell.task.startswith("task-") else cell


def one_column(rows: Mapping[str, Sequence[Cell]], column: str = "M=2") -> Grid:
    return grid({(row, column): cells for row, cells in rows.items()})


def benchmark(*tables: Grid, pretrainings: Sequence[Pretraining] = (), **more: str) -> Benchmark:
    return Benchmark(
        folder=Path("bench"),
        title=more.get("title", "A benchmark"),
        notes=more.get("notes", "Notes on it."),
        recipe=more.get("recipe", 'title = "A benchmark"\n'),
        methods={
            row: {"method": "none" if row.startswith("Random") else row.lower()}
            for table in tables
            for row in table.rows
        },
        stores={"heart": {"path": "stores/heart", "class_names": ["A", "B"]}},
        tables=tables,
        pretrainings=tuple(pretrainings),
    )
