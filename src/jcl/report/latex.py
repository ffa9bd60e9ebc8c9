"""A benchmark's tables for LaTeX, as the paper prints them: 0.5620(0.05), the best of a column bold."""

import re
from collections.abc import Iterator

from jcl.metrics import METRICS
from jcl.report.gaps import find_gaps
from jcl.report.grid import Benchmark, Grid
from jcl.report.numbers import TITLES, mean_text
from jcl.report.published import of_other_data, published_name
from jcl.report.statistics import Summaries, Summary, summarise_benchmark

__all__ = ["latex_tables"]

HEAD = r"""
% Tables of a benchmark; \usepackage{booktabs} is needed. Mean (standard deviation over folds), n - 1.
% The best of a column is bold, among the rows with the most runs.
% A small 1/5: only one of five folds is in the figure. A double dagger: with runs of other code than the last run had.
""".strip()

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "×": r"\(\times\)",
}  # fmt: skip


def latex_tables(benchmark: Benchmark, summaries: Summaries | None = None) -> str:
    r"""A `table` for each table and metric, and the paper's figures as rows below ours.

    Args:
        benchmark: finished or not; a table that is not complete says so in its caption.
        summaries: its statistics, if they are at hand.
    """
    summaries = summaries or summarise_benchmark(benchmark)
    tables = (_table(grid, summaries[grid.name][metric]) for grid in benchmark.tables for metric in METRICS)
    return "\n\n".join([f"{HEAD}\n% {' '.join(benchmark.title.split())}", *tables]) + "\n"


def _table(grid: Grid, summary: Summary) -> str:
    columns = [column.name for column in grid.columns]
    lines = [
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{_caption(grid, summary)}}}",
        f"  \\label{{tab:{re.sub('[^A-Za-z0-9-]', '-', grid.name)}-{summary.metric}}}",
        f"  \\begin{{tabular}}{{l{'c' * len(columns)}}}",
        r"    \toprule",
        f"    {_row(['Method', *map(_escape, columns)])}",
        r"    \midrule",
        *(f"    {_row([_escape(row), *(_cell(summary, row, c) for c in columns)])}" for row in grid.rows),
        *(f"    {line}" for line in _paper(grid, summary)),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _caption(grid: Grid, summary: Summary) -> str:
    unfinished = " Not complete." if find_gaps(grid) else ""
    return f"{_escape(grid.title)}. {TITLES[summary.metric]}: mean(standard deviation) over folds.{unfinished}"


def _cell(summary: Summary, row: str, column: str) -> str:
    cell = summary.cells[row, column]
    if cell.mean is None:
        return "--"
    deviation = "" if cell.deviation is None else f"({cell.deviation:.2f})"
    text = mean_text(summary.metric, cell.mean) + deviation
    text = f"\\textbf{{{text}}}" if row in summary.best[column] else text
    partly = "" if cell.folds_done == cell.folds_expected else f"{cell.folds_done}/{cell.folds_expected}"
    marks = [partly] * bool(partly) + [r"\ddagger"] * ("other code" in cell.statuses)
    return text + (f"$^{{{' '.join(marks)}}}$" if marks else "")


def _paper(grid: Grid, summary: Summary) -> Iterator[str]:
    """The published rows, which are Dice; their columns are named where they are not ours."""
    if summary.metric != "dice" or not grid.paper:
        return
    yield r"\midrule"
    other = ", other data" * of_other_data(grid)
    caption = _escape(f"Published, {published_name(grid)}{other}")
    yield _row([f"\\multicolumn{{{len(grid.columns) + 1}}}{{l}}{{\\emph{{{caption}}}}}"])
    theirs = [grid.paper_columns.get(column.name, "") for column in grid.columns]
    if theirs != [column.name for column in grid.columns]:
        yield _row(["", *map(_escape, theirs)])
    for row in grid.rows:
        found = [grid.paper.get((row, column.name)) for column in grid.columns]
        if any(found):
            texts = ["--" if f is None else f"{f.mean:.4f}" + _brackets(f.deviation) for f in found]
            yield _row([_escape(row), *texts])


def _brackets(deviation: float | None) -> str:
    return "" if deviation is None else f"({deviation:.2f})"


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escape(text: str) -> str:
    return "".join(SPECIAL.get(letter, letter) for letter in " ".join(text.split()))
