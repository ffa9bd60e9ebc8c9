"""The end of a training by a clock that tells what the test wants."""

import pytest
from benchmarks.peers.limited.clock import Limit, core_seconds


class Clock:
    """Says how many seconds have passed."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def steps(limit: Limit, clock: Clock, *lengths: float) -> int:
    """How many steps are done, if they take so long in turn, the last length ever after."""
    done = 0
    while limit.another():
        clock.now += lengths[min(done, len(lengths) - 1)]
        done += 1
    assert done == limit.steps
    return done


def test_steps_fill_the_time_and_no_more():
    clock = Clock()
    assert steps(Limit(1, clock), clock, 7.0) == 8
    assert clock.now == 56


def test_what_passed_before_the_training_counts():
    clock = Clock(25.0)
    assert steps(Limit(1, clock), clock, 7.0) == 5
    assert clock.now == 60


def test_the_longest_step_decides_whether_another_fits():
    clock = Clock()
    assert steps(Limit(1, clock), clock, 30.0, 1.0) == 2, "after 31 s another of 30 s would end late"
    clock = Clock()
    assert steps(Limit(1, clock), clock, 1.0, 20.0) == 3


def test_there_is_one_step_at_least():
    clock = Clock(100.0)
    limit = Limit(1, clock)
    assert steps(limit, clock, 7.0) == 1
    assert limit.share == 1


def test_the_rate_falls_to_nothing_at_the_end():
    clock = Clock()
    limit = Limit(2, clock)
    assert limit.fallen(0.01) == 0.01
    clock.now = 60
    assert limit.share == 0.5
    assert limit.fallen(0.01) == pytest.approx(0.01 * 0.5**0.9)
    clock.now = 500
    assert limit.fallen(0.01) == 0


def test_no_time_is_refused():
    with pytest.raises(ValueError, match="no time"):
        Limit(0)


def test_processor_time_goes_on_while_something_is_computed():
    before = core_seconds()
    while core_seconds() == before:
        sum(range(1000))
    assert core_seconds() > before
