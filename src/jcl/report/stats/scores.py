"""Scores of test cases, as `evaluate` wrote them into the runs of a cell."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from jcl.report.stats.results import Cell

__all__ = [
    "LOWER_IS_BETTER",
    "Entry",
    "Run",
    "RunScores",
    "mean_of_cases",
    "mean_over_classes",
    "pooled_scores",
    "run_scores",
]

LOWER_IS_BETTER = ("hd95", "asd")

Entry: TypeAlias = tuple[str, str, int | None]
"""Patient, case, and slice where slices are scored."""

Run: TypeAlias = tuple[int, int]
"""Fold and seed."""

RunScores: TypeAlias = dict[Run, dict[Entry, float]]
"""What is counted in the test cases of each run that has scores."""


def mean_over_classes(case: Mapping[str, Any], metric: str, class_name: str | None = None) -> float | None:
    """Mean over the foreground classes that are counted in a case, or the class of that name; None if none is."""
    chosen = case["classes"].values() if class_name is None else [case["classes"][class_name]]
    counted = [scores[metric] for scores in chosen if scores[metric] is not None]
    return statistics.fmean(counted) if counted else None


def run_scores(cells: Sequence[Cell], metric: str, class_name: str | None = None) -> RunScores:
    """Of each run with scores, the mean of each case over its counted classes; or the class of that name alone."""
    found: RunScores = {}
    for cell in (cell for cell in cells if cell.cases):
        values = {_entry(case): mean_over_classes(case, metric, class_name) for case in cell.cases}
        found[cell.fold, cell.seed] = {entry: value for entry, value in values.items() if value is not None}
    return found


def pooled_scores(cells: Sequence[Cell], metric: str, class_name: str | None = None) -> dict[Run, float]:
    """Of each run whose slices were scored together, the mean over the classes, or the class of that name."""
    means = {(cell.fold, cell.seed): cell.pooled["mean"] for cell in cells if cell.pooled}
    return {run: (mean if class_name is None else mean["classes"][class_name])[metric] for run, mean in means.items()}


def mean_of_cases(cell: Cell, metric: str) -> dict[str, float]:
    """Case -> its score; where slices were scored, the mean over those that are counted."""
    found: dict[str, list[float]] = {}
    for case in cell.cases:
        value = mean_over_classes(case, metric)
        if value is not None:
            found.setdefault(str(case["case"]), []).append(value)
    return {name: statistics.fmean(values) for name, values in found.items()}


def _entry(case: Mapping[str, Any]) -> Entry:
    return str(case["patient"]), str(case["case"]), case.get("slice")
