"""A function over items in processes: each has its result, and a process that dies costs its own item only."""

import os
import signal
from collections.abc import Sequence

import pytest

from jcl.errors import DataError
from jcl.spread import InProcesses, Spread


def square_or_die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def square_or_raise(number: int) -> int:
    if number == 3:
        raise DataError("three")
    return number * number


def dead(number: int) -> int:
    return -1


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_item_only():
    found = dict(InProcesses(2).run(square_or_die, list(range(7)), dead))
    assert found == {number: -1 if number == 3 else number * number for number in range(7)}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_the_function_raises_is_raised(workers: int):
    with pytest.raises(DataError, match="three"):
        list(InProcesses(workers).run(square_or_raise, list(range(7)), dead))


def test_one_worker_is_this_process():
    def process_of(number: int) -> int:  # a function that could not be sent to another
        return os.getpid()

    spread: Spread = InProcesses(1)
    items: Sequence[int] = [1, 2]
    assert list(spread.run(process_of, items, dead)) == [(number, os.getpid()) for number in items]
