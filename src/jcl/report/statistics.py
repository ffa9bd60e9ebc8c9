"""Statistics of a table: means over folds as the paper prints them, intervals, paired comparisons and ranks.

A cell's mean is taken in steps: over the foreground classes that are counted in a case, over the test cases of a fold,
over the seeds of a fold, over the folds. Its deviation is that of the folds' means.

What a p-value here can say is limited. The pairs are patients, but the patients of a fold are segmented by the same
network, from one draw of labelled patients; a small p-value says that the networks that were trained differ on such
patients, not that another draw or another pre-training would give the same. In how many folds a row is better says
more of that, so it stands beside.
"""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from scipy import stats

from jcl.metrics import METRICS, bootstrap_interval
from jcl.report.grid import Cell, Grid, Status
from jcl.report.significance import holm, signed_rank_p

__all__ = ["CellSummary", "ClassSummary", "Comparison", "Summary", "summarise_grid"]

REFERENCES = ("JCL", "Random")
"""Rows that all others are compared with, where a table has them."""

FEWEST_PAIRS = 6
"""With five pairs even the clearest two-sided result is p = 0.0625."""

LOWER_IS_BETTER = ("hd95", "asd")

_Entry: TypeAlias = tuple[str, str, int | None]
"""Patient, case, and slice where slices are scored."""

_Run: TypeAlias = tuple[int, int]
"""Fold and seed."""

_Scores: TypeAlias = dict[_Run, dict[_Entry, float]]
"""What is counted in the test cases of each run that has scores."""


@dataclass(frozen=True)
class ClassSummary:
    """A class of a cell: mean and deviation over folds; None where it is counted in no case, or in one fold."""

    mean: float | None
    deviation: float | None


@dataclass(frozen=True, kw_only=True)
class CellSummary:
    """A cell of the table.

    Attributes:
        mean: mean over folds; None without scores.
        deviation: standard deviation over folds (n - 1); None for fewer than two.
        interval: bootstrap interval (95 %) of the mean over all cases of all folds together, patients being drawn; it
            has in it how patients differ, not how trainings do. None for one patient.
        folds: the mean of each fold that has scores.
        folds_done: how many folds have scores of all their seeds.
        runs: fold and seed of each run that has scores.
        statuses: how many runs are `done`, `missing`, ...
        patients: how many test patients are counted.
        classes: each class by itself.
    """

    mean: float | None
    deviation: float | None
    interval: tuple[float, float] | None
    folds: Mapping[int, float]
    folds_done: int
    folds_expected: int
    runs: frozenset[tuple[int, int]]
    runs_expected: int
    statuses: Mapping[Status, int]
    patients: int
    classes: Mapping[str, ClassSummary]

    @property
    def complete(self) -> bool:
        """Whether all its runs are done, with the present code."""
        return self.statuses.get("done", 0) == self.runs_expected


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A row against a reference in one column, over what both have.

    Attributes:
        difference: median over the pairs of row minus reference; None without a pair.
        better: whether that is in favour of the row; None where there is none, or it is zero.
        pairs: how many patients both have scores of. Seeds and cases of a patient are paired each with its like, and
            their differences averaged, since they are no independent evidence.
        p_value: two-sided, Wilcoxon's signed-rank test; None with fewer than `FEWEST_PAIRS` pairs.
        p_holm: corrected for all pairs of rows that are tested in this column and metric.
        folds: how many folds both have, and `folds_better` in how many the row's mean is the better one.
        complete: whether all runs of both cells are done, with the present code.
    """

    column: str
    row: str
    reference: str
    difference: float | None
    better: bool | None
    pairs: int
    p_value: float | None
    p_holm: float | None
    folds: int
    folds_better: int
    complete: bool


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A table's statistics for one metric.

    Attributes:
        best: the best rows of each column, among those with the most runs; empty where no two have scores.
        comparisons: column by column, for each of `references` all other rows.
        ranks: average rank of each row (1 is best, ties share their mean rank) over `blocks`; None for rows without
            scores, or without a block.
        blocks: column and fold of which all rows with scores have all seeds.
    """

    metric: str
    lower_is_better: bool
    cells: Mapping[tuple[str, str], CellSummary]
    best: Mapping[str, tuple[str, ...]]
    references: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    ranks: Mapping[str, float | None]
    blocks: tuple[tuple[str, int], ...]


def summarise_grid(grid: Grid, *, metric: str = "dice") -> Summary:
    """All statistics of a table.

    Args:
        grid: the table, of which any cells may lack runs.
        metric: one of `jcl.metrics.METRICS`.

    Raises:
        ValueError: there is no such metric.
    """
    if metric not in METRICS:
        raise ValueError(f"metric is {metric!r}; it is one of {', '.join(METRICS)}")
    lower = metric in LOWER_IS_BETTER
    scores = {place: _scores(cells, metric) for place, cells in grid.cells.items()}
    summaries = {place: _summarise(cells, scores[place], metric) for place, cells in grid.cells.items()}
    references = tuple(name for name in REFERENCES if name in grid.rows)
    comparisons: list[Comparison] = []
    for column in grid.columns:
        comparisons += _column_comparisons(grid.rows, column.name, references, scores, summaries, lower=lower)
    ranks, blocks = _ranks(grid, summaries, lower=lower)
    return Summary(
        metric=metric,
        lower_is_better=lower,
        cells=summaries,
        best={column.name: _best(grid.rows, column.name, summaries, lower=lower) for column in grid.columns},
        references=references,
        comparisons=tuple(comparisons),
        ranks=ranks,
        blocks=blocks,
    )


def _scores(cells: Sequence[Cell], metric: str, class_name: str | None = None) -> _Scores:
    """Of each run with scores, the mean of each case over its counted classes; or the class of that name alone."""
    found: _Scores = {}
    for cell in cells:
        if cell.cases:
            values = {_entry(case): _value(case["classes"], metric, class_name) for case in cell.cases}
            found[cell.fold, cell.seed] = {entry: value for entry, value in values.items() if value is not None}
    return found


def _entry(case: Mapping[str, Any]) -> _Entry:
    return str(case["patient"]), str(case["case"]), case.get("slice")


def _value(classes: Mapping[str, Mapping[str, float | None]], metric: str, class_name: str | None) -> float | None:
    chosen = classes.values() if class_name is None else [classes[class_name]]
    counted = [value for each in chosen if (value := each[metric]) is not None]
    return statistics.fmean(counted) if counted else None


def _fold_means(scores: _Scores) -> dict[int, float]:
    """Mean over the cases of each run, then over the seeds of each fold."""
    by_fold: dict[int, list[float]] = {}
    for (fold, _), values in sorted(scores.items()):
        if values:
            by_fold.setdefault(fold, []).append(statistics.fmean(values.values()))
    return {fold: statistics.fmean(means) for fold, means in by_fold.items()}


def _mean_and_deviation(values: Sequence[float]) -> tuple[float | None, float | None]:
    return (
        statistics.fmean(values) if values else None,
        statistics.stdev(values) if len(values) > 1 else None,
    )


def _summarise(cells: Sequence[Cell], scores: _Scores, metric: str) -> CellSummary:
    folds = _fold_means(scores)
    mean, deviation = _mean_and_deviation(list(folds.values()))
    expected = Counter(cell.fold for cell in cells)
    there = Counter(fold for fold, _ in scores)
    names = next((list(cell.cases[0]["classes"]) for cell in cells if cell.cases), [])
    classes = {name: _fold_means(_scores(cells, metric, name)) for name in names}
    return CellSummary(
        mean=mean,
        deviation=deviation,
        interval=_interval(scores),
        folds=folds,
        folds_done=sum(there[fold] == count for fold, count in expected.items()),
        folds_expected=len(expected),
        runs=frozenset(scores),
        runs_expected=len(cells),
        statuses=dict(Counter(cell.status for cell in cells)),
        patients=len({patient for values in scores.values() for patient, _, _ in values}),
        classes={name: ClassSummary(*_mean_and_deviation(list(means.values()))) for name, means in classes.items()},
    )


def _interval(scores: _Scores) -> tuple[float, float] | None:
    """Over the cases of all folds, each with the mean of its seeds."""
    by_case: dict[tuple[int, _Entry], list[float]] = {}
    for (fold, _), values in sorted(scores.items()):
        for entry, value in values.items():
            by_case.setdefault((fold, entry), []).append(value)
    means = np.array([statistics.fmean(values) for values in by_case.values()], dtype=float)
    bounds = bootstrap_interval(means, [patient for _, (patient, _, _) in by_case]) if len(means) else None
    return (bounds[0], bounds[1]) if bounds else None


def _best(
    rows: Sequence[str], column: str, cells: Mapping[tuple[str, str], CellSummary], *, lower: bool
) -> tuple[str, ...]:
    """Only rows with the same runs compete: a fold may be easier than another."""
    most = max((cells[row, column].runs for row in rows), key=len)
    means = {
        row: mean for row in rows if cells[row, column].runs == most and (mean := cells[row, column].mean) is not None
    }
    if len(means) < 2:
        return ()
    best = (min if lower else max)(means.values())
    return tuple(row for row, mean in means.items() if mean == best)


def _column_comparisons(
    rows: Sequence[str],
    column: str,
    references: Sequence[str],
    scores: Mapping[tuple[str, str], _Scores],
    cells: Mapping[tuple[str, str], CellSummary],
    *,
    lower: bool,
) -> list[Comparison]:
    """All rows against each reference; a pair of two references is one test, and counts once for Holm."""
    found: list[Comparison] = []
    for reference in references:
        for row in rows:
            if row != reference:
                compared = _compare(scores[row, column], scores[reference, column], lower=lower)
                complete = cells[row, column].complete and cells[reference, column].complete
                found.append(Comparison(column=column, row=row, reference=reference, complete=complete, **compared))
    tests = {frozenset((each.row, each.reference)): each.p_value for each in found if each.p_value is not None}
    adjusted = dict(zip(tests, holm(list(tests.values())), strict=True))
    return [replace(each, p_holm=adjusted.get(frozenset((each.row, each.reference)))) for each in found]


def _compare(ours: _Scores, theirs: _Scores, *, lower: bool) -> dict[str, Any]:
    by_patient: dict[str, list[float]] = {}
    by_fold: dict[int, list[float]] = {}
    for run in sorted(ours.keys() & theirs.keys()):
        for entry in ours[run].keys() & theirs[run].keys():
            difference = ours[run][entry] - theirs[run][entry]
            by_patient.setdefault(entry[0], []).append(difference)
            by_fold.setdefault(run[0], []).append(difference)
    pairs = [statistics.fmean(values) for values in by_patient.values()]
    median = statistics.median(pairs) if pairs else None
    folds = [statistics.fmean(values) for values in by_fold.values()]
    return {
        "difference": median,
        "better": (median < 0) == lower if median else None,
        "pairs": len(pairs),
        "p_value": signed_rank_p(pairs) if len(pairs) >= FEWEST_PAIRS else None,
        "p_holm": None,
        "folds": len(folds),
        "folds_better": sum(mean < 0 if lower else mean > 0 for mean in folds),
    }


def _ranks(
    grid: Grid, cells: Mapping[tuple[str, str], CellSummary], *, lower: bool
) -> tuple[dict[str, float | None], tuple[tuple[str, int], ...]]:
    """Average ranks over the blocks (column, fold) that all rows with scores have."""
    columns = [column.name for column in grid.columns]
    ranked = [row for row in grid.rows if any(cells[row, column].folds for column in columns)]
    blocks = [
        (column, fold)
        for column in columns
        for fold in sorted({cell.fold for row in ranked for cell in grid.cells[row, column]})
        if all(_has_fold(grid.cells[row, column], cells[row, column], fold) for row in ranked)
    ]
    means = np.array([[cells[row, column].folds[fold] for row in ranked] for column, fold in blocks], dtype=float)
    ranks: dict[str, float | None] = dict.fromkeys(grid.rows)
    if blocks and len(ranked) > 1:
        average = stats.rankdata(means if lower else -means, axis=1).mean(axis=0)
        ranks |= {row: float(rank) for row, rank in zip(ranked, average, strict=True)}
    return ranks, tuple(blocks)


def _has_fold(cells: Sequence[Cell], summary: CellSummary, fold: int) -> bool:
    """Whether all seeds of a fold have scores, and something is counted in them."""
    return fold in summary.folds and all((fold, cell.seed) in summary.runs for cell in cells if cell.fold == fold)
