"""What a row of a comparison is made of."""

import pytest
from benchmarks.peers.rows import check_same_patients, probed, steps_in

from jcl.data.splits import Split
from jcl.errors import DataError


def test_steps_that_fit_into_the_time():
    """A start of 0.1 minutes and 0.05 minutes a step."""
    assert steps_in(5.1, (4, 0.3), (16, 0.9)) == pytest.approx(100, abs=1)
    assert steps_in(0.31, (4, 0.3), (16, 0.9)) == 4
    assert steps_in(0.01, (4, 0.3), (16, 0.9)) == 1, "one step at least"


def test_small_steps_are_measured_by_a_longer_run():
    """A start of 0.1 minutes that differs by a hundredth, and steps of 0.0002: 12 of them are lost in it."""
    asked: list[int] = []

    def minutes_of(count: int) -> float:
        asked.append(count)
        return 0.1 + 0.0002 * count + 0.01 * (len(asked) % 2)

    few, many = probed(minutes_of)
    assert asked == [4, 16, 64, 256, 1024]
    assert steps_in(3, few, many) == pytest.approx(14_500, rel=0.1)
    assert probed(lambda count: 0.05 * count) == ((4, 0.2), (16, 0.8))


def test_a_measurement_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="too busy to measure"):
        steps_in(5, (4, 0.3), (16, 0.3))


def test_other_patients_are_refused():
    ours = Split(("a", "b"), (), ("c",))
    check_same_patients(ours, Split(("a", "b"), ("d",), ("c",)))
    for other in (Split(("a",), (), ("c",)), Split(("a", "b"), (), ("c", "d"))):
        with pytest.raises(DataError, match="trained on"):
            check_same_patients(ours, other)
