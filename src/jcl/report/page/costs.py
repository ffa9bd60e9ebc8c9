"""What the trainings took."""

import statistics

from jcl.report.grid import Benchmark, Grid
from jcl.report.page.scores import OURS
from jcl.report.page.table import NOTHING, Cell, Head, Row, Table

__all__ = ["finetuning_costs", "pretraining_costs"]


def pretraining_costs(benchmark: Benchmark) -> Table:
    """A row a pre-training."""
    rows: list[Row] = []
    for each in benchmark.pretrainings:
        minutes = None if each.seconds is None else each.seconds / 60
        rows.append(
            Row(
                ", ".join(each.rows) or each.label,
                (
                    Cell(text=" + ".join(each.pretrain_on), words=True),
                    Cell(text=each.status, words=True, tone=each.status.replace(" ", "-"), tip=each.error or ""),
                    NOTHING if minutes is None else Cell(text=f"{minutes:.1f}", value=minutes),
                ),
                ours=OURS in each.rows,
            )
        )
    heads = (Head("Method"), Head("Images of", words=True), Head("Status", words=True), Head("Minutes"))
    return Table(title="Pre-trainings", heads=heads, rows=tuple(rows))


def finetuning_costs(grid: Grid) -> Table:
    """Median minutes of the fine-tunings of each row and column, evaluation included."""
    rows: list[Row] = []
    for row in grid.rows:
        cells: list[Cell] = []
        for column in grid.columns:
            seconds = [run.seconds for run in grid.cells[row, column.name] if run.seconds is not None]
            median = statistics.median(seconds) / 60 if seconds else None
            cells.append(
                NOTHING
                if median is None
                else Cell(text=f"{median:.2f}", value=median, tip=f"{len(seconds)} runs")
            )
        rows.append(Row(row, tuple(cells), ours=row == OURS))
    heads = (Head("Method"), *(Head(column.name) for column in grid.columns))
    caption = "median minutes of a run, its evaluation included"
    return Table(title="Fine-tunings", caption=caption, heads=heads, rows=tuple(rows))
