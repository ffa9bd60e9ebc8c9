"""Wilcoxon's signed-rank test, exact also with ties, and Holm's correction for several tests."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer
from scipy import stats

__all__ = ["holm", "signed_rank_p"]

EXACT = 200
"""Up to so many differences the distribution is counted; beyond, a normal one is as good."""

DECIMALS = 9
"""Differences that agree so far are ties: what differs further on is rounding."""


def signed_rank_p(differences: Sequence[float]) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test (Biometrics Bulletin 1, 1945).

    Zero differences are dropped before ranking, as Wilcoxon did; equal ones share their mean rank. Given these ranks,
    each sign is as likely as the other if neither side is better, and the p-value counts all ways to set the signs
    whose rank sum is as far from its expectation as the one found; so it is exact with ties too. With more than
    `EXACT` differences it is the normal approximation, without a correction for continuity.

    Args:
        differences: one a pair, of pairs that are independent of each other.

    Returns:
        The p-value; 1 where no difference is left.
    """
    kept = np.round(np.asarray(differences, dtype=float), DECIMALS)
    kept = kept[kept != 0]
    if not len(kept):
        return 1.0
    doubled = np.rint(2 * stats.rankdata(np.abs(kept))).astype(np.int64)  # whole numbers: mean ranks are halves
    found = int(doubled[kept > 0].sum())
    return _counted(doubled, found) if len(kept) <= EXACT else _normal(doubled, found)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for a family of tests (Holm, Scandinavian Journal of Statistics 6, 1979), in the order given.

    The k-th smallest of m is multiplied by m - k + 1; none becomes smaller than one before it, nor larger than 1.
    """
    count = len(p_values)
    adjusted = [0.0] * count
    highest = 0.0
    for place, index in enumerate(sorted(range(count), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (count - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _counted(doubled: Integer[np.ndarray, " n"], found: int) -> float:
    """By the distribution of the rank sum, built up rank by rank."""
    total = int(doubled.sum())
    chance: Float[np.ndarray, " sums"] = np.zeros(total + 1)
    chance[0] = 1.0
    for rank in doubled:
        with_rank = np.zeros_like(chance)
        with_rank[rank:] = chance[: total + 1 - rank]
        chance = (chance + with_rank) / 2
    far = np.abs(2 * np.arange(total + 1) - total) >= abs(2 * found - total)
    return min(1.0, float(chance[far].sum()))


def _normal(doubled: Integer[np.ndarray, " n"], found: int) -> float:
    """By a normal distribution of the same mean and variance: a sum of independent signs, each with its rank."""
    deviation = math.sqrt(float((doubled.astype(float) ** 2).sum())) / 2
    return math.erfc(abs(found - float(doubled.sum()) / 2) / deviation / math.sqrt(2))
