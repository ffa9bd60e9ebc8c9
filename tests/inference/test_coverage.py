"""Who stands for the rest: against every choice there is, where there are few; and what holds for any."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jcl.inference.coverage import cover, covered_by, distances_between, spread_of, typicality


def points(count: int, seed: int, size: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, size))


def cost(distances: np.ndarray, chosen: list[int]) -> float:
    """One by one."""
    return sum(min(distances[i][m] for m in chosen) for i in range(len(distances)))


def lowest(distances: np.ndarray, count: int, allowed: list[int], known: list[int]) -> float:
    free = [one for one in allowed if one not in known]
    return min(cost(distances, [*known, *some]) for some in itertools.combinations(free, count))


def test_distances_are_those_of_pairs():
    vectors = points(7, 0, 40).astype(np.float32)
    found = distances_between(vectors)
    for one, other in itertools.product(range(7), repeat=2):
        expected = np.linalg.norm(vectors[one].astype(float) - vectors[other])
        assert found[one, other] == pytest.approx(expected, abs=1e-6)
    assert (np.diag(found) == 0).all()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_other_choice_is_better(seed: int, count: int):
    distances = distances_between(points(11, seed))
    allowed, known = ([*range(11)], []) if seed % 3 == 0 else ([0, 2, 3, 5, 7, 8, 9], [1, 7][: seed % 3])
    chosen = cover(distances, count, allowed=allowed, given=known, seed=seed)
    assert cost(distances, [*known, *chosen]) == pytest.approx(lowest(distances, count, allowed, known))


@given(st.integers(2, 30), st.integers(0, 1000), st.data())
@settings(max_examples=60)
def test_what_holds_for_any(count: int, seed: int, data: st.DataObject):
    distances = distances_between(points(count, seed).round())  # with the same point more than once
    known = data.draw(st.lists(st.integers(0, count - 1), unique=True, max_size=count - 1))
    free = [one for one in range(count) if one not in known]
    wanted = data.draw(st.integers(1, len(free)))
    chosen = cover(distances, wanted, allowed=range(count), given=known, seed=seed)
    assert len(set(chosen)) == len(chosen) == wanted
    assert not set(chosen) & set(known)
    assert chosen == cover(distances, wanted, allowed=range(count), given=known, seed=seed)
    counts = covered_by(distances, chosen, known)
    assert all(number >= 1 for number in counts)
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) <= count - len(known)
    for other in set(free) - set(chosen):  # no exchange of one lowers the sum
        for place in range(wanted):
            changed = [*chosen[:place], other, *chosen[place + 1 :]]
            assert cost(distances, [*known, *chosen]) <= cost(distances, [*known, *changed]) + 1e-6


def test_one_of_each_group_that_was_planted_the_largest_first():
    centres = np.array([[0, 0], [50, 0], [0, 80], [90, 90]])
    sizes = [9, 4, 6, 2]
    groups = np.repeat(np.arange(4), sizes)
    vectors = centres[groups] + np.random.default_rng(0).normal(size=(21, 2))
    chosen = cover(distances_between(vectors), 4, allowed=range(21))
    assert groups[chosen].tolist() == [0, 2, 1, 3]
    assert covered_by(distances_between(vectors), chosen) == [9, 6, 4, 2]
    first = np.flatnonzero(groups == 0).tolist()
    assert groups[cover(distances_between(vectors), 2, allowed=range(21), given=first[:1])].tolist() == [2, 1]


def test_one_alone_is_the_middle_of_all_and_no_outlier():
    vectors = np.array([[0.0], [1], [2], [3], [4], [100]])
    assert cover(distances_between(vectors), 1, allowed=range(6))[0] in (2, 3)


def test_only_those_allowed_are_chosen():
    distances = distances_between(points(20, 3))
    assert set(cover(distances, 3, allowed=[4, 9, 11, 13])) <= {4, 9, 11, 13}
    with pytest.raises(ValueError, match="3 of 2 cannot be chosen"):
        cover(distances, 3, allowed=[1, 2, 3], given=[3])


def test_all_alike():
    distances = np.zeros((5, 5))
    assert len(set(cover(distances, 3, allowed=range(5)))) == 3
    assert spread_of(distances) == 1
    assert typicality(distances) == [0.0] * 5
    assert (spread_of(np.zeros((1, 1))), typicality(np.zeros((1, 1)))) == (1, [1.0])


def test_typicality_and_spread_one_by_one():
    distances = distances_between(points(30, 5))
    near = [np.mean(sorted(np.delete(row, i))[:20]) for i, row in enumerate(distances)]
    expected = [sum(other > own for other in near) / 29 for own in near]
    assert typicality(distances) == pytest.approx(expected)
    pairs = [distances[a, b] for a, b in itertools.combinations(range(30), 2)]
    assert spread_of(distances) == pytest.approx(np.mean(pairs))
