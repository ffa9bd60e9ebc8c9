"""Wilcoxon's test against scipy, against all ways to set the signs, and a published example; Holm by its steps."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from scipy import stats

from jcl.report.stats.significance import EXACT, holm, signed_rank_p

DARWIN = [6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75]
"""Heights of crossed less self-fertilised maize, in eighths of an inch: the example of scipy's documentation."""


def all_signs(differences: Sequence[float]) -> float:
    """The share of all ways to set the signs that lie as far out."""
    kept = np.array([d for d in differences if d != 0])
    ranks = stats.rankdata(abs(kept))
    found = abs(sum(np.sign(kept) * ranks))
    sums = [abs(sum(s * r for s, r in zip(signs, ranks, strict=True))) for signs in product((-1, 1), repeat=len(kept))]
    return sum(each >= found - 1e-9 for each in sums) / len(sums)


def test_published_example():
    assert signed_rank_p(DARWIN) == pytest.approx(0.041259765625, abs=1e-12)


@pytest.mark.parametrize("count", [6, 90])
def test_without_ties_it_is_scipys_exact_test(count: int):
    differences = np.random.default_rng(count).normal(0.2, 1.0, count)
    assert signed_rank_p(differences.tolist()) == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue)


@pytest.mark.parametrize(
    "differences",
    [
        [0, 0, 0.5, -0.5, 0.5, 1.5, 1.5, -2, 3],
        [0.25, -0.25, 0.75, -0.75],
        [3, 0, 0, 0, 0, 0, 0],
        [0.0] * 8,
    ],
)
def test_with_ties_and_zeros_it_is_exact(differences: list[float]):
    assert signed_rank_p(differences) == pytest.approx(all_signs(differences), abs=1e-12)


def test_rounding_does_not_part_ties():
    parted = [0.3 - 0.2, 0.1, -(0.8 - 0.7), 0.1, 0.5 - 0.4, 0.1, 0.2]
    assert len({abs(d) for d in parted}) > 2  # they differ by rounding
    assert signed_rank_p(parted) == pytest.approx(all_signs([0.1, 0.1, -0.1, 0.1, 0.1, 0.1, 0.2]), abs=1e-12)


def test_many_pairs_are_scipys_normal_approximation():
    differences = np.round(np.random.default_rng(0).normal(0.08, 1.0, EXACT + 100), 1)  # with ties and zeros
    expected = stats.wilcoxon(differences, method="approx", correction=False).pvalue
    assert 0.001 < expected < 0.999
    assert signed_rank_p(differences.tolist()) == pytest.approx(expected)


def rejected(p_values: Sequence[float], level: float) -> list[bool]:
    """Holm's procedure as he gives it: go up from the smallest, stop at the first that is not significant."""
    result = [False] * len(p_values)
    for step, index in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[index] > level / (len(p_values) - step):
            break
        result[index] = True
    return result


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.5, 0.03125]) == pytest.approx([0.8, 0.8, 0.09375])
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@pytest.mark.parametrize("seed", range(5))
def test_holm_rejects_what_his_procedure_rejects(seed: int):
    rng = np.random.default_rng(seed)
    p_values = np.round(rng.beta(0.3, 3.0, 9), 3).tolist()  # with ties
    adjusted = holm(p_values)
    for level in rng.uniform(0, 1, 200):
        assert [p <= level for p in adjusted] == rejected(p_values, level)
