"""Neighbours that are drawn for a batch, against lists of all that may be."""

from collections import Counter

import pytest

from jcl.data.neighbours import draw_neighbours


@pytest.mark.parametrize(("count", "farthest", "reach"), [(30, 0.1, 3), (7, 0.1, 1), (10, 0.0, 1), (9, 1.0, 9)])
def test_all_that_are_near_enough_and_no_other_with_equal_chance(count, farthest, reach):
    """Of 3,000 draws each has its share but for chance: five standard deviations are allowed."""
    for number in {0, 1, count // 2, count - 1}:
        near = [other for other in range(count) if other != number and abs(other - number) <= reach]
        drawn = Counter(draw_neighbours([(number, count)] * 3000, farthest, [number]))
        assert sorted(drawn) == near
        share = 1 / len(near)
        assert all(abs(times - 3000 * share) <= 5 * (3000 * share * (1 - share)) ** 0.5 for times in drawn.values())


def test_the_only_slice_of_a_volume_is_its_own_neighbour():
    assert draw_neighbours([(0, 1)] * 5, 0.1, [3]) == [0] * 5


def test_the_draw_depends_on_the_seed_alone():
    slices = [(number, 40) for number in range(40)]
    assert draw_neighbours(slices, 0.5, [1, 2]) == draw_neighbours(slices, 0.5, [1, 2])
    assert draw_neighbours(slices, 0.5, [1, 2]) != draw_neighbours(slices, 0.5, [2, 1])
