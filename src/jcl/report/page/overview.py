"""All tables at a glance."""

from collections import Counter
from collections.abc import Mapping, Sequence

from jcl.report.grid import Grid
from jcl.report.numbers import difference_text
from jcl.report.page.scores import OURS
from jcl.report.page.table import NOTHING, Cell, Head, Row, Table
from jcl.report.statistics import Summary

__all__ = ["overview_table"]

BASE = "Random"


def overview_table(tables: Sequence[Grid], summaries: Mapping[str, Summary]) -> Table:
    """A row a table: how far it is, who leads, and what JCL gains over random weights in mean Dice."""
    gains = any({OURS, BASE} <= set(grid.rows) for grid in tables)
    heads = [
        Head("Table"),
        Head("Runs done", "descending"),
        Head("Best mean in most columns", words=True),
        Head("Lowest average rank", words=True),
    ]
    if gains:
        said = "difference of the mean Dice, least and most over columns"
        heads.append(Head(f"{OURS} over {BASE}", "descending", said))
    rows: list[Row] = []
    for grid in tables:
        summary = summaries[grid.name]
        cells = [_done(grid), _leader(grid, summary), _lowest(summary)]
        if gains:
            cells.append(_gain(grid, summary))
        rows.append(Row(grid.title, tuple(cells)))
    return Table(title="At a glance", caption="by Dice", heads=tuple(heads), rows=tuple(rows))


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
    return Cell(text=f"{', '.join(names)} ({most} of {len(grid.columns)})", words=True)


def _lowest(summary: Summary) -> Cell:
    ranks = {row: rank for row, rank in summary.ranks.items() if rank is not None}
    if not ranks:
        return Cell(text="–", words=True)
    lowest = min(ranks.values())
    names = [row for row, rank in ranks.items() if rank == lowest]
    return Cell(text=f"{', '.join(names)} ({lowest:.1f} of {len(ranks)})", words=True)


def _gain(grid: Grid, summary: Summary) -> Cell:
    """Only columns in which both have the same runs: a fold may be easier than another."""
    gains: list[float] = []
    for column in grid.columns:
        ours, base = summary.cells.get((OURS, column.name)), summary.cells.get((BASE, column.name))
        if ours and base and ours.mean is not None and base.mean is not None and ours.runs == base.runs:
            gains.append(ours.mean - base.mean)
    if not gains:
        return NOTHING
    texts = [difference_text("dice", gain) for gain in (min(gains), max(gains))]
    said = " to ".join(dict.fromkeys(texts))
    return Cell(text=said, value=max(gains), tip=f"over {len(gains)} columns")
