"""Tables of the benchmark as a whole: all tables at a glance, what the trainings took, and the methods."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from jcl.report.page.table import NOTHING, Cell, Head, Row, Table
from jcl.report.stats.costs import Cost
from jcl.report.stats.numbers import difference_text
from jcl.report.stats.results import BASELINE, OURS, Grid
from jcl.report.stats.summary import Summary

__all__ = ["cost_table", "method_table", "overview_table"]


def overview_table(tables: Sequence[Grid], summaries: Mapping[str, Summary]) -> Table:
    """A row a table: how far it is, who leads, and what JCL gains over random weights in mean Dice."""
    gains = any({OURS, BASELINE} <= set(grid.rows) for grid in tables)
    heads = [
        Head("Table"),
        Head("Runs done", "descending"),
        Head("Best mean in most columns", words=True),
        Head("Lowest average rank", words=True),
    ]
    if gains:
        said = "difference of the mean Dice, least and most over columns"
        heads.append(Head(f"{OURS} over {BASELINE}", "descending", said))
    rows: list[Row] = []
    for grid in tables:
        summary = summaries[grid.name]
        cells = [_done(grid), _leader(grid, summary), _lowest(summary)]
        if gains:
            cells.append(_gain(grid, summary))
        rows.append(Row(grid.title, tuple(cells)))
    return Table(title="At a glance", caption="by Dice", heads=tuple(heads), rows=tuple(rows))


def cost_table(costs: Sequence[Cost]) -> Table:
    """Minutes of each row: its pre-training, and the mean of its fine-tunings."""
    heads = (
        Head("Method"),
        Head("Pre-trained on", words=True),
        Head("Fine-tuned on", words=True),
        Head("Pre-training"),
        Head("Fine-tunings", "descending", "how many are done"),
        Head("Each of them"),
        Head("Together"),
    )
    rows = tuple(Row(cost.row, _cost(cost), ours=cost.row == OURS) for cost in costs)
    caption = "wall-clock minutes on the machines that did the runs, beside whatever else ran there"
    return Table(title="Costs", caption=caption, heads=heads, rows=rows)


def method_table(methods: Mapping[str, Mapping[str, Any]]) -> Table:
    """Each row of the tables with its method and what is set otherwise than for the others."""
    rows = [Row(name, _method(settings), ours=name == OURS) for name, settings in methods.items()]
    heads = (Head("Row"), Head("Method", words=True), Head("Settings of its own", words=True))
    return Table(title="Methods", heads=heads, rows=tuple(rows))


def _done(grid: Grid) -> Cell:
    runs = [run for cells in grid.cells.values() for run in cells]
    done = sum(run.status == "done" for run in runs)
    return Cell(text=f"{done} / {len(runs)}", value=done / max(1, len(runs)))


def _leader(grid: Grid, summary: Summary) -> Cell:
    firsts = Counter(row for rows in summary.best.values() for row in rows)
    if not firsts:
        return Cell(text="–", words=True)
    most = max(firsts.values())
    names = [row for row in grid.rows if firsts[row] == most]
    return Cell(text=f"{' and '.join(names)} ({most} of {len(grid.columns)})", words=True)


def _lowest(summary: Summary) -> Cell:
    ranks = {row: rank for row, rank in summary.ranks.items() if rank is not None}
    if not ranks:
        return Cell(text="–", words=True)
    lowest = min(ranks.values())
    names = [row for row, rank in ranks.items() if rank == lowest]
    return Cell(text=f"{' and '.join(names)} ({lowest:.1f} of {len(ranks)})", words=True)


def _gain(grid: Grid, summary: Summary) -> Cell:
    """Only columns in which both have the same runs: a fold may be easier than another."""
    gains: list[float] = []
    for column in grid.columns:
        ours, base = summary.cells.get((OURS, column.name)), summary.cells.get((BASELINE, column.name))
        if ours and base and ours.mean is not None and base.mean is not None and ours.runs == base.runs:
            gains.append(ours.mean - base.mean)
    if not gains:
        return NOTHING
    texts = [difference_text("dice", gain) for gain in (min(gains), max(gains))]
    said = " to ".join(dict.fromkeys(texts))
    return Cell(text=said, value=max(gains), tip=f"over {len(gains)} columns")


def _cost(cost: Cost) -> tuple[Cell, ...]:
    total = (cost.pretraining or 0.0) + (cost.finetuning or 0.0) * cost.finetunings
    pretraining = _minutes(cost.pretraining)
    if cost.pretraining is None and cost.pretraining_status:
        pretraining = Cell(text=cost.pretraining_status, tone=cost.pretraining_status.replace(" ", "-"), state=True)
    return (
        Cell(text=" + ".join(cost.pretrain_on) if cost.pretraining_status else "nothing", words=True),
        Cell(text=cost.finetune_on, words=True),
        pretraining,
        Cell(text=str(cost.finetunings), value=cost.finetunings),
        _minutes(cost.finetuning),
        _minutes(total or None),
    )


def _minutes(seconds: float | None) -> Cell:
    return NOTHING if seconds is None else Cell(text=f"{seconds / 60:.2f}", value=seconds)


def _method(settings: Mapping[str, Any]) -> tuple[Cell, ...]:
    name = "random weights" if settings["method"] == "none" else str(settings["method"])
    own = {key: settings[key] for key in ("backbone", "width") if settings.get(key) is not None}
    own |= settings.get("method_settings") or {}
    for stage in ("pretrain", "finetune"):
        own |= {f"{stage} {key}": value for key, value in (settings.get(stage) or {}).items()}
    said = ", ".join(f"{key} = {value}" for key, value in own.items())
    return Cell(text=name, words=True), Cell(text=said or "–", words=True)
