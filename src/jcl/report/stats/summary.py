"""Statistics of a table: means over folds as the paper prints them, intervals, paired comparisons and ranks.

A cell's mean is taken in steps: over the foreground classes that are counted in a case, over the test cases of a fold,
over the seeds of a fold, over the folds. Its deviation is that of the folds' means. Where slices were scored together
(`jcl.pooled`), the first two steps are that score; intervals, which draw patients, there are none then, and comparisons
are of the cases all the same.
"""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import stats

from jcl.metrics import METRICS
from jcl.report.stats.comparisons import Comparison, compare_column
from jcl.report.stats.numbers import mean_text
from jcl.report.stats.resampling import resampled_interval
from jcl.report.stats.results import Benchmark, Cell, Grid, Status
from jcl.report.stats.scores import LOWER_IS_BETTER, RunScores, pooled_scores, run_scores

__all__ = ["CellSummary", "ClassSummary", "Comparison", "Summaries", "Summary", "summarise_benchmark", "summarise_grid"]


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
        interval: bootstrap interval (95 %) of the mean over all cases of all folds together, patients, folds and seeds
            being drawn (`resampled_interval`). None for one patient.
        folds: the mean of each fold that has scores.
        folds_done: how many folds have scores of all their seeds.
        runs: fold and seed of each run that has scores.
        statuses: how many runs are `done`, `missing`, ...
        patients: how many test patients are counted.
        pooled: whether mean, deviation and classes are of all slices together.
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
    pooled: bool = False

    @property
    def complete(self) -> bool:
        """Whether all its runs are done, with the present code."""
        return self.statuses.get("done", 0) == self.runs_expected


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A table's statistics for one metric.

    Attributes:
        best: the best rows of each column, as printed, among those with the most runs; empty where no two have scores.
        comparisons: column by column, for each of `references` all other rows.
        ranks: average rank of each row (1 is best, ties share their mean rank) over `blocks`; None for rows without
            scores, or without a block.
        blocks: column and fold of which all rows with scores have all seeds; none where only one row has any.
    """

    metric: str
    lower_is_better: bool
    cells: Mapping[tuple[str, str], CellSummary]
    best: Mapping[str, tuple[str, ...]]
    references: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    ranks: Mapping[str, float | None]
    blocks: tuple[tuple[str, int], ...]

    @property
    def pooled(self) -> bool:
        """Whether scores are of all test slices of a run together, and distances in pixels."""
        return any(cell.pooled for cell in self.cells.values())


Summaries: TypeAlias = Mapping[str, Mapping[str, Summary]]
"""Name of a table -> metric -> its statistics."""


def summarise_benchmark(benchmark: Benchmark) -> Summaries:
    """All tables, in all metrics."""
    return {grid.name: {metric: summarise_grid(grid, metric=metric) for metric in METRICS} for grid in benchmark.tables}


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
    scores = {place: run_scores(cells, metric) for place, cells in grid.cells.items()}
    summaries = {place: _summarise(cells, scores[place], metric) for place, cells in grid.cells.items()}
    comparisons: list[Comparison] = []
    for column in grid.columns:
        comparisons += compare_column(
            column.name,
            {row: scores[row, column.name] for row in grid.rows},
            {row: summaries[row, column.name].complete for row in grid.rows},
            grid.references,
            lower_is_better=lower,
        )
    ranks, blocks = _ranks(grid, summaries, lower=lower)
    return Summary(
        metric=metric,
        lower_is_better=lower,
        cells=summaries,
        best={column.name: _best(grid.rows, column.name, summaries, metric=metric) for column in grid.columns},
        references=grid.references,
        comparisons=tuple(comparisons),
        ranks=ranks,
        blocks=blocks,
    )


def _fold_means(scores: RunScores) -> dict[int, float]:
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


def _means(cells: Sequence[Cell], metric: str, class_name: str | None = None) -> dict[int, float]:
    """The mean of each fold, of all slices together where they were scored so."""
    pooled = pooled_scores(cells, metric, class_name)
    return _fold_means({run: {("", "", None): score} for run, score in pooled.items()}) or _fold_means(
        run_scores(cells, metric, class_name)
    )


def _summarise(cells: Sequence[Cell], scores: RunScores, metric: str) -> CellSummary:
    folds = _means(cells, metric)
    pooled = any(cell.pooled for cell in cells)
    mean, deviation = _mean_and_deviation(list(folds.values()))
    expected = Counter(cell.fold for cell in cells)
    there = Counter(fold for fold, _ in scores)
    names = next((list(cell.cases[0]["classes"]) for cell in cells if cell.cases), [])
    classes = {name: _means(cells, metric, name) for name in names}
    return CellSummary(
        mean=mean,
        deviation=deviation,
        interval=None if pooled else resampled_interval(scores),
        folds=folds,
        folds_done=sum(there[fold] == count for fold, count in expected.items()),
        folds_expected=len(expected),
        runs=frozenset(scores),
        runs_expected=len(cells),
        statuses=dict(Counter(cell.status for cell in cells)),
        patients=len({patient for values in scores.values() for patient, _, _ in values}),
        classes={name: ClassSummary(*_mean_and_deviation(list(means.values()))) for name, means in classes.items()},
        pooled=pooled,
    )


def _best(
    rows: Sequence[str], column: str, cells: Mapping[tuple[str, str], CellSummary], *, metric: str
) -> tuple[str, ...]:
    """Only rows with the same runs compete, since a fold may be easier than another; what prints alike is a tie."""
    most = max((cells[row, column].runs for row in rows), key=len)
    peers = {row: cells[row, column].mean for row in rows if cells[row, column].runs == most}
    means = {row: float(mean_text(metric, mean)) for row, mean in peers.items() if mean is not None}
    if len(means) < 2:
        return ()
    best = (min if metric in LOWER_IS_BETTER else max)(means.values())
    return tuple(row for row, mean in means.items() if mean == best)


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
    if len(ranked) < 2:
        return ranks, ()
    if blocks:
        average = stats.rankdata(means if lower else -means, axis=1).mean(axis=0)
        ranks |= {row: float(rank) for row, rank in zip(ranked, average, strict=True)}
    return ranks, tuple(blocks)


def _has_fold(cells: Sequence[Cell], summary: CellSummary, fold: int) -> bool:
    """Whether all seeds of a fold have scores, and something is counted in them."""
    return fold in summary.folds and all((fold, cell.seed) in summary.runs for cell in cells if cell.fold == fold)
