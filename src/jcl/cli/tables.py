"""Results as tables on the terminal."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jcl.errors import DataError
from jcl.files import read_json
from jcl.report.stats.scores import mean_over_classes
from jcl.text import printable

__all__ = [
    "MEAN",
    "class_values",
    "gain_table",
    "mean_and_deviation",
    "print_scores",
    "print_table",
    "read_results",
    "score_table",
]

Results = Mapping[str, Any]
"""What `evaluate` writes: `cases`, each with its `classes` and their scores."""

PERCENT = ("dice", "jaccard")
HEADS = {"dice": "Dice %", "jaccard": "Jaccard %", "hd95": "HD95 mm", "asd": "ASD mm"}
MEAN = "mean"
"""The row of the mean over the classes that are counted in a case."""


def read_results(path: Path) -> Results:
    """A results file.

    Raises:
        DataError: it is missing or not what `evaluate` writes.
    """
    try:
        results = read_json(path)
        if not results["cases"]:
            raise DataError(f"{path}: holds no case; run `jcl evaluate` again")
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: not what `jcl evaluate` writes; give its --out file") from error
    return results


def print_scores(path: Path) -> None:
    """Print the table of a results file."""
    print_table(score_table(read_results(path)))


def print_table(table: Table) -> None:
    """Print a table as wide as it needs to be where the output is not a terminal."""
    console = Console(highlight=False)
    Console(highlight=False, width=console.width if console.is_terminal else 160).print(table)


def score_table(results: Results) -> Table:
    """A row per class, and their mean: mean and standard deviation over the cases, and how many were counted."""
    count = len(results["cases"])
    table = Table(title=f"{count} test cases: mean ± standard deviation over cases", title_justify="left")
    table.add_column("class")
    for head in (*HEADS.values(), "cases"):
        table.add_column(head, justify="right", no_wrap=True)
    names = class_names(results)
    for name in (*names, MEAN):
        values = {metric: class_values([results], name, metric) for metric in HEADS}
        cells = [_cell(values[metric], percent=metric in PERCENT) for metric in HEADS]
        if name == MEAN:
            table.add_section()
        table.add_row(escape(printable(name)), *cells, str(len(values["dice"])))
    return table


def gain_table(groups: Mapping[str, tuple[Sequence[Results], Sequence[Results]]], heads: tuple[str, str]) -> Table:
    """Dice of two ways side by side, and what the second gains, for each group of results.

    Args:
        groups: title -> results (one per run) of the first way, and of the second.
        heads: what the two ways are called.
    """
    table = Table(title="Dice (%) on the test patients: mean ± standard deviation", title_justify="left")
    table.add_column("class")
    for title in groups:
        for index, head in enumerate((*heads, "gain")):
            table.add_column(f"{title if index == 0 else ''}\n{head}", justify="right", no_wrap=True)
    first = next(iter(groups.values()))[0][0]
    for name in (*class_names(first), MEAN):
        cells: list[str] = []
        for before, after in groups.values():
            values = class_values(before, name), class_values(after, name)
            gain = 100 * (mean_and_deviation(values[1])[0] - mean_and_deviation(values[0])[0])
            cells += [*(_cell(each, percent=True) for each in values), f"{gain:+.1f}"]
        if name == MEAN:
            table.add_section()
        table.add_row(escape(printable(name)), *cells)
    return table


def class_names(results: Results) -> list[str]:
    """Names of the classes, in their order."""
    return list(results["cases"][0]["classes"])


def class_values(results: Sequence[Results], name: str, metric: str = "dice") -> list[float]:
    """The values of a class (or of `MEAN`) in all cases in which it is counted."""
    chosen = None if name == MEAN else name
    values = (mean_over_classes(case, metric, chosen) for each in results for case in each["cases"])
    return [value for value in values if value is not None]


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1); NaN where there is nothing to take them of."""
    mean = statistics.fmean(values) if values else float("nan")
    return mean, statistics.stdev(values) if len(values) > 1 else float("nan")


def _cell(values: Sequence[float], *, percent: bool) -> str:
    if not values:
        return "–"
    mean, deviation = (value * (100 if percent else 1) for value in mean_and_deviation(values))
    return f"{mean:.1f}" + (f" ± {deviation:.1f}" if deviation == deviation else "")
