"""Which few of many stand for the rest: k-medoids over distances, beside those that are chosen already."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

__all__ = ["cover", "covered_by", "distances_between", "spread_of", "typicality"]

STARTS = 8
"""Random beginnings of the search besides the greedy one."""

NEIGHBOURS = 20
"""Of which typicality is counted, at most (Hacohen et al., 2022)."""

LESS = 1e-9
"""Share by which a sum has to be lower to be lower: below it is rounding."""


def distances_between(vectors: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n n"]:
    """Euclidean distance of each to each."""
    vectors = vectors.astype(np.float64)
    squares = np.einsum("nf,nf->n", vectors, vectors)
    found = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * vectors @ vectors.T, 0))
    np.fill_diagonal(found, 0)
    return (found + found.T) / 2


def spread_of(distances: Float[np.ndarray, "n n"]) -> float:
    """Mean distance of two; 1 where there are no two, or all are the same, so that others can be shares of it."""
    pairs = len(distances) * (len(distances) - 1)
    return float(distances.sum() / pairs) or 1.0 if pairs else 1.0


def cover(
    distances: Float[np.ndarray, "n n"],
    count: int,
    *,
    allowed: Sequence[int],
    given: Sequence[int] = (),
    seed: int = 0,
) -> list[int]:
    """Choose `count` of the allowed so that everyone is as near as can be to someone chosen or given.

    k-medoids: the chosen m minimise

        sum over all i of min over m in given and chosen of distance(i, m)

    Begun greedily, and from random choices too; then one is exchanged for another as long as that lowers the sum. The
    lowest sum wins.

    Args:
        distances: of each to each.
        count: how many to choose; at least 1.
        allowed: who may be chosen.
        given: who counts as chosen beforehand.
        seed: of the random beginnings.

    Returns:
        Those who stand for most come first.

    Raises:
        ValueError: `count` is below 1, or above the number of those allowed and not given.
    """
    free = np.array(sorted(set(allowed) - set(given)), dtype=np.int64)
    if not 1 <= count <= len(free):
        raise ValueError(f"{count} of {len(free)} cannot be chosen")
    known = distances[list(given)].min(0) if len(given) else np.full(len(distances), np.inf)
    random = np.random.default_rng(seed)
    starts = [_greedy(distances, count, free, known)]
    starts += [random.permutation(free)[:count].tolist() for _ in range(STARTS)]
    best, lowest = starts[0], np.inf
    for start in starts:
        found, total = _exchanged(distances, start, free, known)
        if total < lowest * (1 - LESS):
            best, lowest = found, total
    counts = covered_by(distances, best, given)
    return sorted(best, key=lambda one: (-counts[best.index(one)], one))


def covered_by(distances: Float[np.ndarray, "n n"], chosen: Sequence[int], given: Sequence[int] = ()) -> list[int]:
    """How many are nearest to each of the chosen, themselves among them; those nearest to one given are not counted.

    Who is as near to several counts for the one with the lowest number.
    """
    medoids = np.array(sorted({*chosen, *given}), dtype=np.int64)
    nearest = medoids[distances[medoids].argmin(0)]
    nearest[medoids] = medoids
    return [int((nearest == one).sum()) for one in chosen]


def typicality(distances: Float[np.ndarray, "n n"]) -> list[float]:
    """Of each, the share of the others that are farther from their nearest `NEIGHBOURS` on average; 1: most typical."""
    others = len(distances) - 1
    if others < 1:
        return [1.0] * len(distances)
    near = np.sort(distances, axis=1)[:, 1 : NEIGHBOURS + 1].mean(1)
    return [float((near > own).sum()) / others for own in near]


def _greedy(
    distances: Float[np.ndarray, "n n"], count: int, free: Int[np.ndarray, " m"], known: Float[np.ndarray, " n"]
) -> list[int]:
    """One after the other, whoever lowers the sum most."""
    chosen: list[int] = []
    near = known
    for _ in range(count):
        sums = np.minimum(distances[free], near).sum(1)
        sums[np.isin(free, chosen)] = np.inf
        chosen.append(int(free[sums.argmin()]))
        near = np.minimum(near, distances[chosen[-1]])
    return chosen


def _exchanged(
    distances: Float[np.ndarray, "n n"], start: list[int], free: Int[np.ndarray, " m"], known: Float[np.ndarray, " n"]
) -> tuple[list[int], float]:
    """Exchange one for another, always the pair that lowers the sum most, until none does; also returns the sum."""
    chosen = list(start)
    total = float(np.minimum(distances[chosen].min(0), known).sum())
    while True:
        best = (total, 0, chosen[0])
        for place in range(len(chosen)):
            rest = [one for number, one in enumerate(chosen) if number != place]
            near = np.minimum(distances[rest].min(0), known) if rest else known
            sums = np.minimum(distances[free], near).sum(1)
            sums[np.isin(free, chosen)] = np.inf
            at = int(sums.argmin())
            if sums[at] < best[0]:
                best = (float(sums[at]), place, int(free[at]))
        if not best[0] < total * (1 - LESS):
            return chosen, total
        total, place, new = best
        chosen[place] = new
