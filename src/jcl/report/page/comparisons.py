"""Paired comparisons of all rows with a reference, as a table."""

from jcl.report.page.scores import first_order
from jcl.report.page.table import Cell, Head, Row, Table
from jcl.report.stats.comparisons import Comparison
from jcl.report.stats.numbers import TITLES, difference_text, p_text
from jcl.report.stats.results import OURS, Grid
from jcl.report.stats.summary import Summary

__all__ = ["comparison_table"]

LEVEL = 0.05
UNFINISHED = "°"


def comparison_table(grid: Grid, summary: Summary, reference: str) -> Table:
    """Median difference of each row to the reference; the mean with its interval, p-value and folds."""
    found = {(each.row, each.column): each for each in summary.comparisons if each.reference == reference}
    caption = (
        f"{TITLES[summary.metric]} less that of {reference}, median over patients; below it the mean with its 95 % "
        f"interval; bold where p < {LEVEL}."
    )
    if not all(each.complete for each in found.values()):
        caption += f" {UNFINISHED} not all runs of both rows are done: compared over what both have."
    return Table(
        title=f"Against {reference}",
        caption=caption,
        heads=(Head("Method"), *(Head(column.name, first_order(summary)) for column in grid.columns)),
        rows=tuple(
            Row(row, tuple(_cell(found[row, column.name], summary) for column in grid.columns), ours=row == OURS)
            for row in grid.rows
            if row != reference
        ),
    )


def _cell(comparison: Comparison, summary: Summary) -> Cell:
    """As "−0.021", below it "mean −0.018 (−0.051 to +0.012), p = 0.012, n = 30, 1/5 folds"."""
    if comparison.difference is None:
        return Cell(text="–", tip="no patient of whom both have scores", state=True)
    p_value = comparison.p_holm
    text = difference_text(summary.metric, comparison.difference)
    sub = _mean(comparison, summary) + ("no test" if p_value is None else f"p {p_text(p_value)}")
    sub += f", n = {comparison.pairs}, {comparison.folds_better}/{comparison.folds} folds"
    tip = "" if comparison.p_value is None else f"p {p_text(comparison.p_value)} before Holm's correction"
    return Cell(
        text=text,
        value=comparison.difference,
        sub=sub + ("" if comparison.complete else f" {UNFINISHED}"),
        best=p_value is not None and p_value < LEVEL,
        tip=tip,
        tone={True: "up", False: "down", None: ""}[comparison.better] if text[0] in "+−" else "",
    )


def _mean(comparison: Comparison, summary: Summary) -> str:
    """Mean and interval, where patients allow one."""
    if comparison.mean is None or comparison.interval is None:
        return ""
    mean, low, high = (difference_text(summary.metric, each) for each in (comparison.mean, *comparison.interval))
    return f"mean {mean} ({low} to {high}), "
