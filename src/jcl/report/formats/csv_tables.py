"""A benchmark's scores as rows for a spreadsheet or a statistics program."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from jcl.metrics import METRICS
from jcl.report.stats.comparisons import Comparison
from jcl.report.stats.results import Benchmark, Grid
from jcl.report.stats.summary import CellSummary, Summaries, Summary
from jcl.text import csv_cell

__all__ = ["as_csv", "csv_rows", "summary_rows"]

Row: TypeAlias = dict[str, str | int | float | None]


def csv_rows(benchmark: Benchmark) -> Iterator[Row]:
    """One row for each table, cell, fold, seed, test case, class and metric.

    `value` is None where the class is in neither the segmentation nor the truth of the case. A run without scores has
    one row, with its status and no case, so that nothing that is missing can be overlooked.
    """
    for grid in benchmark.tables:
        for (row, column), cells in grid.cells.items():
            for cell in cells:
                head: Row = {"table": grid.name, "row": row, "column": column, "fold": cell.fold, "seed": cell.seed}
                head |= {"status": cell.status, "task": cell.task}
                nothing = dict.fromkeys(("patient", "case", "slice", "class", "metric", "value"))
                if not cell.cases:
                    yield {**head, **nothing}
                for case in cell.cases:
                    head |= {"patient": case["patient"], "case": case["case"], "slice": case.get("slice")}
                    for name, scores in case["classes"].items():
                        for metric in METRICS:
                            yield {**head, "class": name, "metric": metric, "value": scores[metric]}


def summary_rows(benchmark: Benchmark, summaries: Summaries) -> Iterator[Row]:
    """One row for each table, row, column and metric: means over the classes, and then each class by itself.

    Differences are to each reference that the table has, as `jcl.report.stats.comparisons` defines them; rows have
    the same keys throughout, with None where there is nothing.
    """
    references = sorted({name for found in summaries.values() for name in found[METRICS[0]].references})
    for grid in benchmark.tables:
        for metric in METRICS:
            summary = summaries[grid.name][metric]
            compared = {(each.row, each.column, each.reference): each for each in summary.comparisons}
            for (row, column), cell in summary.cells.items():
                against = {name: compared.get((row, column, name)) for name in references}
                yield from _cell_rows(grid, summary, row, column, cell, against)


def as_csv(rows: Iterable[Row]) -> str:
    """Rows of the same keys as CSV, with a line of heads; figures in full, None as an empty field."""
    file = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow({key: csv_cell(value) for key, value in row.items()})
    return file.getvalue()


def _cell_rows(
    grid: Grid, summary: Summary, row: str, column: str, cell: CellSummary, against: Mapping[str, Comparison | None]
) -> Iterator[Row]:
    head: Row = {"table": grid.name, "row": row, "column": column, "metric": summary.metric}
    low, high = cell.interval or (None, None)
    theirs = grid.paper.get((row, column)) if summary.metric == "dice" else None
    last: Row = {
        "folds_done": cell.folds_done,
        "folds_expected": cell.folds_expected,
        "runs": len(cell.runs),
        "runs_expected": cell.runs_expected,
        "statuses": "; ".join(f"{count} {status}" for status, count in sorted(cell.statuses.items())),
        "patients": cell.patients,
    }
    paper: Row = dict.fromkeys(("paper_mean", "paper_std", "paper_table"))
    if theirs:
        paper = {"paper_mean": theirs.mean, "paper_std": theirs.deviation, "paper_table": grid.published}
    means: Row = {"mean": cell.mean, "std": cell.deviation, "interval_low": low, "interval_high": high}
    tests: Row = {key: value for name, each in against.items() for key, value in _against(name, each).items()}
    yield {**head, "class": "mean", **means, **last, **paper, **tests}
    for name, found in cell.classes.items():
        own: Row = {**dict.fromkeys(means), "mean": found.mean, "std": found.deviation}
        yield {**head, "class": name, **own, **last, **dict.fromkeys(paper), **dict.fromkeys(tests)}


def _against(reference: str, each: Comparison | None) -> Row:
    means = ("mean_difference", "interval_low", "interval_high")
    counts = ("folds_better", "folds_compared", "complete")
    values: Row = dict.fromkeys(("difference", *means, "pairs", "p", "p_holm", *counts))
    if each is not None:
        values["difference"], values["mean_difference"], values["pairs"] = each.difference, each.mean, each.pairs
        values["interval_low"], values["interval_high"] = each.interval or (None, None)
        values["p"], values["p_holm"] = each.p_value, each.p_holm
        values["folds_better"], values["folds_compared"] = each.folds_better, each.folds
        values["complete"] = "yes" if each.complete else "no"
    return {f"{key}_to_{reference}": value for key, value in values.items()}
