"""Neighbours of a slice, as slow loops find them; and what is recorded of them."""

import numpy as np
import pytest

from jcl.data.context import (
    channel_names,
    context_of,
    neighbours,
    recorded_context,
    span_of,
    stack_neighbours,
    with_context,
)
from jcl.errors import DataError


def found_by_steps(number: int, slices: int, context: int) -> list[int]:
    """One slice at a time, forth and back, and no farther than the volume goes."""
    there = [number]
    for _ in range(context):
        there.append(there[-1] + 1 if there[-1] + 1 < slices else there[-1])
    back = [number]
    for _ in range(context):
        back.append(back[-1] - 1 if back[-1] > 0 else back[-1])
    return [*reversed(back[1:]), *there]


@pytest.mark.parametrize("slices", [1, 2, 3, 4, 9])
def test_neighbours_are_those_of_a_loop(slices: int):
    for context in range(6):
        for number in range(slices):
            found = neighbours(number, slices, context)
            assert found == found_by_steps(number, slices, context)
            assert len(found) == span_of(context)
            assert found[context] == number
    assert neighbours(0, 9, 2) == [0, 0, 0, 1, 2]


@pytest.mark.parametrize("slices", [1, 2, 7])
@pytest.mark.parametrize("context", [0, 1, 3])
def test_channels_are_the_neighbours_one_after_the_other(slices: int, context: int):
    volume = np.random.default_rng(0).random((2, slices, 3, 4)).astype(np.float32)
    for first, stop in ((0, slices), (slices // 2, slices), (0, slices // 2 + 1)):
        low, high = max(0, first - context), min(slices, stop + context)
        found = stack_neighbours(volume[:, low:high], low, range(first, stop), slices, context)
        assert found.shape == (2 * (2 * context + 1), stop - first, 3, 4)
        for at, number in enumerate(range(first, stop)):
            for place, other in enumerate(found_by_steps(number, slices, context)):
                for channel in range(2):
                    assert np.array_equal(found[2 * place + channel, at], volume[channel, other])


def test_names_of_channels():
    assert channel_names(1, 1) == ["slice -1", "slice", "slice +1"]
    assert channel_names(2, 1)[:3] == ["slice -1, channel 0", "slice -1, channel 1", "slice, channel 0"]
    assert len(channel_names(3, 2)) == 15


def test_a_preparation_says_it_only_where_there_are_neighbours():
    preparation = {"channels": 1}
    assert with_context(preparation, 0) == preparation
    assert with_context(preparation, 2) == {"channels": 1, "context": 2}
    assert [context_of(with_context(preparation, context)) for context in (0, 2)] == [0, 2]


def test_what_a_run_has_recorded():
    assert recorded_context({"settings": {"context": 2}}, "run.json") == 2
    for before in ({}, {"settings": {}}, {"settings": {"context": None}}, [], {"settings": 3}):
        assert recorded_context(before, "run.json") == 0
    for wrong in (-1, 33, 10**9, 1.5, True, "1"):
        with pytest.raises(DataError, match=r"^run.json: context is .*; 0 to 32 is needed"):
            recorded_context({"settings": {"context": wrong}}, "run.json")
