"""Paired comparisons of all rows with a reference, as a table."""

from jcl.report.comparisons import Comparison
from jcl.report.grid import Grid
from jcl.report.numbers import TITLES, difference_text, p_text
from jcl.report.page.scores import OURS
from jcl.report.page.table import Cell, Head, Row, Table
from jcl.report.statistics import Summary

__all__ = ["comparison_table"]

LEVEL = 0.05


def comparison_table(grid: Grid, summary: Summary, reference: str) -> Table:
    """Median difference of each row to the reference, with p-value and folds."""
    found = {(each.row, each.column): each for each in summary.comparisons if each.reference == reference}
    first = "ascending" if summary.lower_is_better else "descending"
    return Table(
        title=f"Against {reference}",
        caption=f"median difference over patients in {TITLES[summary.metric]}; bold where p < {LEVEL}.",
        heads=(Head("Method"), *(Head(column.name, first) for column in grid.columns)),
        rows=tuple(
            Row(row, tuple(_cell(found[row, column.name], summary) for column in grid.columns), ours=row == OURS)
            for row in grid.rows
            if row != reference
        ),
    )


def _cell(comparison: Comparison, summary: Summary) -> Cell:
    if comparison.difference is None:
        return Cell(text="–", tip="no patient of whom both have scores", state=True)
    p_value = comparison.p_holm
    text = difference_text(summary.metric, comparison.difference)
    tone = {True: "up", False: "down", None: ""}[comparison.better] if text[0] in "+−" else ""
    return Cell(
        text=text,
        value=comparison.difference,
        sub=f"{_p(p_value)} · {comparison.folds_better}/{comparison.folds}" + ("" if comparison.complete else " *"),
        best=p_value is not None and p_value < LEVEL,
        tip=_tip(comparison),
        tone=tone,
    )


def _p(value: float | None) -> str:
    return "no test" if value is None else f"p {p_text(value)}"


def _tip(comparison: Comparison) -> str:
    said = f"{comparison.pairs} patients; better in {comparison.folds_better} of {comparison.folds} folds"
    if comparison.p_value is not None:
        said += f"; {_p(comparison.p_value)} before Holm's correction"
    return said + ("" if comparison.complete else "; not all runs of both are done: compared over what both have")
