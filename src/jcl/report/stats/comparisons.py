"""Paired comparisons of the rows of a table.

What a p-value here can say is limited. The pairs are patients, but the patients of a fold are segmented by the same
network, from one draw of labelled patients; a small p-value says that the networks that were trained differ on such
patients, not that another draw or another pre-training would give the same. In how many folds a row is better, and the
interval of the mean difference, which draws folds and seeds besides, say more of that, so they stand beside.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jcl.report.stats.resampling import resampled_interval
from jcl.report.stats.scores import Entry, RunScores
from jcl.report.stats.significance import holm, signed_rank_p

__all__ = ["FEWEST_PAIRS", "Comparison", "compare_column"]

FEWEST_PAIRS = 6
"""With five pairs even the clearest two-sided result is p = 0.0625."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A row against a reference in one column, over what both have.

    Attributes:
        difference: median over the pairs of row minus reference; None without a pair.
        better: whether that is in favour of the row; None where there is none, or it is zero.
        mean: mean difference over the cases of both, and `interval` its bootstrap interval (95 %), patients, folds and
            seeds being drawn (`resampled_interval`); None where there is none.
        pairs: how many patients both have scores of. Seeds and cases of a patient are paired each with its like, and
            their differences averaged, since they are not independent.
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
    mean: float | None
    interval: tuple[float, float] | None
    pairs: int
    p_value: float | None
    p_holm: float | None
    folds: int
    folds_better: int
    complete: bool


def compare_column(
    column: str,
    scores: Mapping[str, RunScores],
    complete: Mapping[str, bool],
    references: Sequence[str],
    *,
    lower_is_better: bool,
) -> list[Comparison]:
    """All rows of a column against each reference.

    For Holm's correction all tests of the column are one family; a pair of two references is one test.

    Args:
        column: its name.
        scores: of each row.
        complete: of each row, whether all its runs are done with the present code.
        references: rows that the others are compared with.
        lower_is_better: whether small values are good ones.
    """
    found: list[Comparison] = []
    for reference in references:
        for row in scores:
            if row != reference:
                compared = _compare(scores[row], scores[reference], lower=lower_is_better)
                both = complete[row] and complete[reference]
                found.append(Comparison(column=column, row=row, reference=reference, complete=both, **compared))
    tests = {frozenset((each.row, each.reference)): each.p_value for each in found if each.p_value is not None}
    adjusted = dict(zip(tests, holm(list(tests.values())), strict=True))
    return [replace(each, p_holm=adjusted.get(frozenset((each.row, each.reference)))) for each in found]


def _compare(ours: RunScores, theirs: RunScores, *, lower: bool) -> dict[str, Any]:
    differences = {
        run: {entry: ours[run][entry] - theirs[run][entry] for entry in ours[run].keys() & theirs[run].keys()}
        for run in sorted(ours.keys() & theirs.keys())
    }
    by_patient: dict[str, list[float]] = {}
    by_fold: dict[int, list[float]] = {}
    by_case: dict[tuple[int, Entry], list[float]] = {}
    for run, found in differences.items():
        for entry, difference in found.items():
            by_patient.setdefault(entry[0], []).append(difference)
            by_fold.setdefault(run[0], []).append(difference)
            by_case.setdefault((run[0], entry), []).append(difference)
    pairs = [statistics.fmean(values) for values in by_patient.values()]
    median = statistics.median(pairs) if pairs else None
    folds = [statistics.fmean(values) for values in by_fold.values()]
    return {
        "difference": median,
        "better": (median < 0) == lower if median else None,
        "mean": statistics.fmean(map(statistics.fmean, by_case.values())) if by_case else None,
        "interval": resampled_interval(differences),
        "pairs": len(pairs),
        "p_value": signed_rank_p(pairs) if len(pairs) >= FEWEST_PAIRS else None,
        "p_holm": None,
        "folds": len(folds),
        "folds_better": sum(mean < 0 if lower else mean > 0 for mean in folds),
    }
