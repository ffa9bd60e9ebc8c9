"""What stands behind the means of a table: each class, and each fold."""

from collections.abc import Sequence

from jcl.report.grid import Grid
from jcl.report.numbers import TITLES, deviation_text, mean_text
from jcl.report.page.scores import OURS
from jcl.report.page.table import NOTHING, Cell, Head, Row, Table
from jcl.report.statistics import CellSummary, ClassSummary, Summary

__all__ = ["class_tables", "fold_tables"]


def class_tables(grid: Grid, summary: Summary) -> tuple[Table, ...]:
    """A table a column of the grid, its columns the classes; none for a single class."""
    names = list(dict.fromkeys(name for cell in summary.cells.values() for name in cell.classes))
    if len(names) < 2:
        return ()
    heads = (Head("Method"), *(Head(name, _first(summary)) for name in names))
    tables: list[Table] = []
    for column in grid.columns:
        cells = {row: summary.cells[row, column.name].classes for row in grid.rows}
        rows = [Row(row, tuple(_class(summary, cells[row].get(name)) for name in names), row == OURS) for row in cells]
        caption = f"{TITLES[summary.metric]} of each class"
        tables.append(Table(title=column.name, caption=caption, heads=heads, rows=tuple(rows)))
    return tuple(tables)


def fold_tables(grid: Grid, summary: Summary) -> tuple[Table, ...]:
    """A table a column of the grid: the mean of each fold, and the interval over patients."""
    tables: list[Table] = []
    for column in grid.columns:
        folds = sorted({run.fold for row in grid.rows for run in grid.cells[row, column.name]})
        heads = [Head("Method"), *(Head(f"Fold {fold}", _first(summary)) for fold in folds)]
        heads += [Head("95 % interval", _first(summary)), Head("Patients", "descending")]
        cells = {row: summary.cells[row, column.name] for row in grid.rows}
        rows = tuple(Row(row, _folds(summary, cells[row], folds), row == OURS) for row in grid.rows)
        caption = f"{TITLES[summary.metric]} of each fold, and the bootstrap interval of the mean over patients"
        tables.append(Table(title=column.name, caption=caption, heads=tuple(heads), rows=rows))
    return tuple(tables)


def _first(summary: Summary) -> str:
    """The order in which the best come first."""
    return "ascending" if summary.lower_is_better else "descending"


def _class(summary: Summary, found: ClassSummary | None) -> Cell:
    if found is None or found.mean is None:
        return NOTHING
    deviation = "" if found.deviation is None else deviation_text(summary.metric, found.deviation)
    return Cell(text=mean_text(summary.metric, found.mean), value=found.mean, deviation=deviation)


def _folds(summary: Summary, cell: CellSummary, folds: Sequence[int]) -> tuple[Cell, ...]:
    metric = summary.metric
    found = [cell.folds.get(fold) for fold in folds]
    means = [NOTHING if mean is None else Cell(text=mean_text(metric, mean), value=mean) for mean in found]
    interval = NOTHING
    if cell.interval is not None:
        low, high = cell.interval
        interval = Cell(text=f"{mean_text(metric, low)} – {mean_text(metric, high)}", value=low)
    return (*means, interval, Cell(text=str(cell.patients), value=cell.patients))
