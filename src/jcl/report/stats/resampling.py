"""Bootstrap intervals that hold what chance a table has in it: of patients, of folds and of seeds."""

import numpy as np
from jaxtyping import Float, Integer

from jcl.report.stats.scores import Entry, RunScores

__all__ = ["resampled_interval"]

RESAMPLES = 10_000
LEVEL = 0.95


def resampled_interval(scores: RunScores) -> tuple[float, float] | None:
    """Percentile bootstrap interval (Efron, 1979) of the mean over all test cases, 95 %; None for one patient.

    Whatever there are several of is drawn anew, with replacement: the folds; within each drawn fold its patients, with
    all their cases; and the seeds, of which a draw holds for all folds and cases, since a seed is a training of its own
    (and where a recipe says so a pre-training of its own, too). A case counts with the mean of its drawn seeds.

    With two or three folds or seeds there is little to draw from, so such an interval is a rough one, and rather too
    narrow; leaving them out, as a bootstrap over patients alone does, would make it narrower still.

    Args:
        scores: of each fold and seed, what its test cases have; or differences of two rows in them.
    """
    seeds = sorted({seed for _, seed in scores})
    folds = {fold: _Fold(scores, fold, seeds) for fold in sorted({fold for fold, _ in scores})}
    folds = {fold: each for fold, each in folds.items() if len(each.patients)}
    if sum(len(fold.patients) for fold in folds.values()) < 2:
        return None
    random = np.random.default_rng(0)
    drawn_seeds = _draws(random, np.full(RESAMPLES, len(seeds)), len(seeds)).astype(float)
    drawn_folds = _draws(random, np.full(RESAMPLES, len(folds)), len(folds))
    sums, counts = np.zeros(RESAMPLES), np.zeros(RESAMPLES)
    for fold, times in zip(folds.values(), drawn_folds.T, strict=True):
        patients = _draws(random, times * len(fold.patients), len(fold.patients))
        ours, cases = fold.means(drawn_seeds), patients[:, fold.patient_of]
        there = ~np.isnan(ours)
        sums += (cases * np.where(there, ours, 0.0)).sum(axis=1)
        counts += (cases * there).sum(axis=1)
    means = sums[counts > 0] / counts[counts > 0]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


class _Fold:
    """Scores of a fold as an array, seeds by cases, NaN where a run has none; and whose each case is."""

    def __init__(self, scores: RunScores, fold: int, seeds: list[int]) -> None:
        runs: list[dict[Entry, float]] = [scores.get((fold, seed), {}) for seed in seeds]
        cases = sorted({entry for run in runs for entry in run}, key=str)
        self.scores = np.array([[run.get(entry, np.nan) for entry in cases] for run in runs], dtype=float)
        self.patients = sorted({patient for patient, _, _ in cases})
        self.patient_of = np.array([self.patients.index(patient) for patient, _, _ in cases], dtype=int)

    def means(self, drawn: Float[np.ndarray, "draws seeds"]) -> Float[np.ndarray, "draws cases"]:
        """Of each case, the mean over the drawn seeds that have a score of it; NaN where none has."""
        there = ~np.isnan(self.scores)
        counts = drawn @ there.astype(float)
        with np.errstate(invalid="ignore"):
            return (drawn @ np.where(there, self.scores, 0.0)) / counts


def _draws(
    random: np.random.Generator, count: Integer[np.ndarray, " draws"], kinds: int
) -> Integer[np.ndarray, "draws kinds"]:
    """How often each of so many kinds is drawn, in draws of `count` each."""
    return random.multinomial(count, np.full(kinds, 1 / kinds))
