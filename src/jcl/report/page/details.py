"""What stands behind the means of a table: each class, and each fold."""

from jcl.report.grid import Grid
from jcl.report.page.scores import OURS
from jcl.report.page.table import FORMATS, Cell, Head, Row, Table
from jcl.report.statistics import Summary

__all__ = ["class_tables", "fold_tables"]


def class_tables(grid: Grid, summary: Summary) -> tuple[Table, ...]:
    """A table a column of the grid, its columns the classes; none for a single class."""
    names = list(dict.fromkeys(name for cell in summary.cells.values() for name in cell.classes))
    if len(names) < 2:
        return ()
    form, first = FORMATS[summary.metric], "ascending" if summary.lower_is_better else "descending"
    tables: list[Table] = []
    for column in grid.columns:
        rows: list[Row] = []
        for row in grid.rows:
            classes = summary.cells[row, column.name].classes
            cells = [
                Cell(text=form.text(each.mean), value=each.mean, deviation=form.text(each.deviation))
                if (each := classes.get(name)) is not None and each.mean is not None
                else Cell(text="–", state=True)
                for name in names
            ]
            rows.append(Row(row, tuple(cells), ours=row == OURS))
        heads = (Head("Method"), *(Head(name, first) for name in names))
        caption = f"each class, {form.name} ({form.unit})"
        tables.append(Table(title=column.name, caption=caption, heads=heads, rows=tuple(rows)))
    return tuple(tables)


def fold_tables(grid: Grid, summary: Summary) -> tuple[Table, ...]:
    """A table a column of the grid: the mean of each fold, and the interval over patients."""
    form, first = FORMATS[summary.metric], "ascending" if summary.lower_is_better else "descending"
    tables: list[Table] = []
    for column in grid.columns:
        folds = sorted({run.fold for row in grid.rows for run in grid.cells[row, column.name]})
        rows: list[Row] = []
        for row in grid.rows:
            cell = summary.cells[row, column.name]
            means = [cell.folds.get(fold) for fold in folds]
            cells = [
                Cell(text=form.text(mean), value=mean) if mean is not None else Cell(text="–", state=True)
                for mean in means
            ]
            interval = Cell(text="–", state=True)
            if cell.interval is not None:
                low, high = cell.interval
                interval = Cell(text=f"{form.text(low)} – {form.text(high)}", value=low)
            patients = Cell(text=str(cell.patients), value=cell.patients)
            rows.append(Row(row, (*cells, interval, patients), ours=row == OURS))
        heads = [Head("Method"), *(Head(f"Fold {fold}", first) for fold in folds)]
        heads += [Head("95 % interval", first), Head("Patients", "descending")]
        caption = f"mean of each fold, {form.name} ({form.unit}), and bootstrap interval of the mean over patients"
        tables.append(Table(title=column.name, caption=caption, heads=tuple(heads), rows=tuple(rows)))
    return tuple(tables)
