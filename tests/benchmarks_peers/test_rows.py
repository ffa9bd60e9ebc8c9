"""What a row of a comparison is made of."""

import pytest
from benchmarks.peers.rows import check_same_patients, steps_in

from jcl.data.splits import Split
from jcl.errors import DataError


def test_steps_that_fit_into_the_time():
    """A start of 0.1 minutes and 0.05 minutes a step."""
    assert steps_in(5.1, (4, 0.3), (16, 0.9)) == pytest.approx(100, abs=1)
    assert steps_in(0.31, (4, 0.3), (16, 0.9)) == 4
    assert steps_in(0.01, (4, 0.3), (16, 0.9)) == 1, "one step at least"


def test_a_measurement_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="too busy to measure"):
        steps_in(5, (4, 0.3), (16, 0.3))


def test_other_patients_are_refused():
    ours = Split(("a", "b"), (), ("c",))
    check_same_patients(ours, Split(("a", "b"), ("d",), ("c",)))
    for other in (Split(("a",), (), ("c",)), Split(("a", "b"), (), ("c", "d"))):
        with pytest.raises(DataError, match="trained on"):
            check_same_patients(ours, other)
