"""Scores of single cases, as `evaluate` wrote them."""

import statistics
from collections.abc import Mapping
from typing import Any

from jcl.report.grid import Cell

__all__ = ["mean_of_cases", "mean_over_classes"]


def mean_over_classes(case: Mapping[str, Any], metric: str) -> float | None:
    """Mean over the foreground classes that are counted in an entry of a cell's `cases`; None if none is."""
    counted = [scores[metric] for scores in case["classes"].values() if scores[metric] is not None]
    return statistics.fmean(counted) if counted else None


def mean_of_cases(cell: Cell, metric: str) -> dict[str, float]:
    """Case -> its score; where slices were scored, the mean over those that are counted."""
    found: dict[str, list[float]] = {}
    for case in cell.cases:
        value = mean_over_classes(case, metric)
        if value is not None:
            found.setdefault(str(case["case"]), []).append(value)
    return {name: statistics.fmean(values) for name, values in found.items()}
