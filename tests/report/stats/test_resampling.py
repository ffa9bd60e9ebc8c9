"""Bootstrap intervals, against all draws there can be."""

import math
import statistics
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest

from jcl.metrics import bootstrap_interval
from jcl.report.stats.resampling import resampled_interval
from jcl.report.stats.scores import RunScores

SCORES: RunScores = {
    (0, 0): {("a", "a1", None): 0.9, ("a", "a2", None): 0.7, ("b", "b", None): 0.2},
    (0, 1): {("a", "a1", None): 0.7, ("a", "a2", None): 0.5, ("b", "b", None): 0.4},
    (3, 0): {("c", "c", None): 0.5},
    (3, 1): {("c", "c", None): 0.6, ("e", "e", None): 0.1},
}
"""Two folds, two seeds, of which one run has a patient less."""


def all_means(scores: RunScores) -> Iterator[tuple[float, float]]:
    """Of every draw its mean, and how likely it is."""
    folds, seeds = sorted({fold for fold, _ in scores}), sorted({seed for _, seed in scores})
    for drawn_seeds in product(seeds, repeat=len(seeds)):
        for drawn_folds in product(folds, repeat=len(folds)):
            patients = [sorted({e[0] for s in seeds for e in scores.get((fold, s), {})}) for fold in drawn_folds]
            likely = math.prod(len(names) ** -len(names) for names in patients)
            for drawn in product(*(product(names, repeat=len(names)) for names in patients)):
                cases = [
                    statistics.fmean(values)
                    for fold, names in zip(drawn_folds, drawn, strict=True)
                    for name in names
                    for entry in sorted({e for s in seeds for e in scores.get((fold, s), {}) if e[0] == name})
                    if (values := [found[entry] for s in drawn_seeds if entry in (found := scores[fold, s])])
                ]
                if cases:
                    yield statistics.fmean(cases), likely


@pytest.mark.parametrize(
    "left_out",
    [set(), {(0, 1), (3, 1)}, {(3, 0), (3, 1)}, {(0, 0), (0, 1), (3, 0)}],
    ids=["two folds, two seeds", "one seed", "one fold", "one run"],
)
def test_the_interval_is_that_of_all_draws(left_out: set[tuple[int, int]]):
    scores = {run: found for run, found in SCORES.items() if run not in left_out}
    means, likely = zip(*all_means(scores), strict=True)
    found = resampled_interval(scores)
    assert found is not None
    for bound, share in zip(found, (0.025, 0.975), strict=True):
        # 10,000 draws find the place of a quantile to 0.0016 (standard error): three of these to either side
        low, high = np.quantile(means, [share - 0.005, share + 0.005], weights=likely, method="inverted_cdf")
        assert low - 1e-9 <= bound <= high + 1e-9


def test_with_one_fold_and_seed_it_is_the_interval_over_patients():
    values = np.random.default_rng(3).normal(0.7, 0.1, 30)
    scores = {(0, 0): {(f"p{k:02}", f"p{k:02}", None): float(value) for k, value in enumerate(values)}}
    assert resampled_interval(scores) == pytest.approx(bootstrap_interval(values), abs=2e-3)


def test_what_differs_between_trainings_makes_it_wider():
    """Ten patients who are all alike, in trainings that are not."""
    alike = {(0, seed): {(f"p{k}", f"p{k}", None): 0.5 + 0.1 * seed for k in range(10)} for seed in range(3)}
    low, high = resampled_interval(alike) or (0, 0)
    assert (low, high) == pytest.approx((0.5 + 0.1 / 3, 0.7 - 0.1 / 3), abs=0.04)
    folds = {(seed, 0): found for (_, seed), found in alike.items()}
    assert resampled_interval(folds) == pytest.approx((0.5, 0.7))
    assert resampled_interval({run: alike[run] for run in [(0, 1)]}) == pytest.approx((0.6, 0.6))


def test_no_interval_of_one_patient_or_none():
    assert resampled_interval({}) is None
    assert resampled_interval({(0, 0): {}}) is None
    assert resampled_interval({(0, 0): {("a", "1", None): 0.4, ("a", "2", None): 0.6}}) is None
