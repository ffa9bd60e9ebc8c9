"""Tables of scores: mean and deviation beside the paper's, and what stands behind them, each class and each fold."""

from collections.abc import Sequence

from jcl.benchmark.paper import PaperCell
from jcl.report.page.notes import STATUS_TEXTS, Marks
from jcl.report.page.table import NOTHING, Cell, Head, Row, Table
from jcl.report.stats.numbers import TITLES, deviation_text, mean_text
from jcl.report.stats.results import OURS, Grid
from jcl.report.stats.summary import CellSummary, ClassSummary, Summary

__all__ = ["class_tables", "first_order", "fold_tables", "score_table"]


def first_order(summary: Summary) -> str:
    """The order in which the best come first."""
    return "ascending" if summary.lower_is_better else "descending"


def score_table(grid: Grid, summary: Summary, marks: Marks) -> Table:
    """Rows are methods, columns as in the recipe; the last is the average rank."""
    papers = grid.paper_columns if summary.metric == "dice" and grid.paper else {}
    heads = [
        Head(each.name, first_order(summary), spread=True, paper=papers.get(each.name, "")) for each in grid.columns
    ]
    rows: list[Row] = []
    for row in grid.rows:
        cells = [_score(grid, summary, marks, (row, column.name)) for column in grid.columns]
        rows.append(Row(row, (*cells, _rank(summary, row)), ours=row == OURS))
    caption = "mean ± standard deviation over folds, the best of each column in bold"
    caption += ", what the paper publishes small beside" if papers else ""
    caption += "; lower is better" if summary.lower_is_better else ""
    caption += (
        "; a fold's score is that of all its test slices together, as the authors pool them" if summary.pooled else ""
    )
    if blocks := len(summary.blocks):
        caption += f"; ranks are over {blocks} pair{'s' * (blocks > 1)} of column and fold"
    return Table(
        title=_title(summary),
        caption=f"{caption}.",
        heads=(Head("Method"), *heads, Head("Rank", "ascending", "average over columns and folds; 1 is best")),
        rows=tuple(rows),
        marked=bool(marks.notes),
    )


def class_tables(grid: Grid, summary: Summary) -> tuple[Table, ...]:
    """A table a column of the grid, its columns the classes; none for a single class."""
    names = list(dict.fromkeys(name for cell in summary.cells.values() for name in cell.classes))
    if len(names) < 2:
        return ()
    heads = (Head("Method"), *(Head(name, first_order(summary), spread=True) for name in names))
    tables: list[Table] = []
    for column in grid.columns:
        cells = {row: summary.cells[row, column.name].classes for row in grid.rows}
        rows = [Row(row, tuple(_class(summary, cells[row].get(name)) for name in names), row == OURS) for row in cells]
        caption = f"{_title(summary)} of each class"
        tables.append(Table(title=column.name, caption=caption, heads=heads, rows=tuple(rows)))
    return tuple(tables)


def fold_tables(grid: Grid, summary: Summary) -> tuple[Table, ...]:
    """A table a column of the grid: the mean of each fold, and the interval of the mean over all cases."""
    tables: list[Table] = []
    for column in grid.columns:
        folds = sorted({run.fold for row in grid.rows for run in grid.cells[row, column.name]})
        names = (*(f"Fold {fold}" for fold in folds), "95 % interval")
        heads = (Head("Method"), *(Head(name, first_order(summary)) for name in names), Head("Patients", "descending"))
        cells = {row: summary.cells[row, column.name] for row in grid.rows}
        rows = tuple(Row(row, _folds(summary, cells[row], folds), row == OURS) for row in grid.rows)
        caption = f"{_title(summary)} of each fold, and the bootstrap interval of the mean over all cases"
        tables.append(Table(title=column.name, caption=caption, heads=heads, rows=rows))
    return tuple(tables)


def _title(summary: Summary) -> str:
    """The metric and its unit; pooled distances are of slices, in pixels."""
    return TITLES[summary.metric].replace("mm", "pixels") if summary.pooled else TITLES[summary.metric]


def _score(grid: Grid, summary: Summary, marks: Marks, place: tuple[str, str]) -> Cell:
    metric, cell, mark = summary.metric, summary.cells[place], marks.of[place]
    paper = grid.paper.get(place) if metric == "dice" else None
    lack = marks.texts.get(mark, "")
    if cell.mean is None:
        status = next((each for each in STATUS_TEXTS if each in cell.statuses and each != "other code"), "missing")
        text = "no score" if cell.statuses.get("done") else status
        return Cell(text=text, paper=paper, mark=mark, tip=lack, tone=status.replace(" ", "-"), state=True)
    return Cell(
        text=mean_text(metric, cell.mean),
        value=cell.mean,
        deviation="" if cell.deviation is None else deviation_text(metric, cell.deviation),
        paper=paper,
        best=place[0] in summary.best[place[1]],
        mark=mark,
        tip=_tip(cell, summary, paper, lack),
        tone="" if cell.complete else "partial",
    )


def _rank(summary: Summary, row: str) -> Cell:
    rank = summary.ranks[row]
    if rank is None:
        return NOTHING
    lowest = min(each for each in summary.ranks.values() if each is not None)
    return Cell(text=f"{rank:.2f}", value=rank, best=rank == lowest)


def _tip(cell: CellSummary, summary: Summary, paper: PaperCell | None, lack: str) -> str:
    metric = summary.metric
    said = [f"{cell.folds_done} of {cell.folds_expected} folds", f"{cell.patients} test patients"]
    if cell.interval is not None:
        low, high = (mean_text(metric, bound) for bound in cell.interval)
        said.append(f"95 % interval {low} to {high}")
    if paper is not None:
        said.append(f"the paper: {paper.mean:.4f}" + ("" if paper.deviation is None else f" ± {paper.deviation:.2f}"))
    return "; ".join([*said, *([lack] if lack else [])])


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
