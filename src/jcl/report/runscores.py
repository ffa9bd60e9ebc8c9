"""Scores of a cell's runs, case by case."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from jcl.report.grid import Cell

__all__ = ["LOWER_IS_BETTER", "Entry", "Run", "RunScores", "run_scores"]

LOWER_IS_BETTER = ("hd95", "asd")

Entry: TypeAlias = tuple[str, str, int | None]
"""Patient, case, and slice where slices are scored."""

Run: TypeAlias = tuple[int, int]
"""Fold and seed."""

RunScores: TypeAlias = dict[Run, dict[Entry, float]]
"""What is counted in the test cases of each run that has scores."""


def run_scores(cells: Sequence[Cell], metric: str, class_name: str | None = None) -> RunScores:
    """Of each run with scores, the mean of each case over its counted classes; or the class of that name alone."""
    found: RunScores = {}
    for cell in cells:
        if cell.cases:
            values = {_entry(case): _value(case["classes"], metric, class_name) for case in cell.cases}
            found[cell.fold, cell.seed] = {entry: value for entry, value in values.items() if value is not None}
    return found


def _entry(case: Mapping[str, Any]) -> Entry:
    return str(case["patient"]), str(case["case"]), case.get("slice")


def _value(classes: Mapping[str, Mapping[str, float | None]], metric: str, class_name: str | None) -> float | None:
    chosen = classes.values() if class_name is None else [classes[class_name]]
    counted = [value for each in chosen if (value := each[metric]) is not None]
    return statistics.fmean(counted) if counted else None
