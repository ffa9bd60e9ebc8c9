"""Percentiles, beside NumPy's."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jcl.data import percentiles as module
from jcl.data.percentiles import percentiles


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 300),
    st.tuples(st.floats(0, 50), st.floats(50, 100)),
    st.sampled_from(["noise", "whole numbers", "half of it one value"]),
    st.integers(0, 99),
)
def test_percentiles_are_those_of_numpy_to_the_last_bit(
    count: int, percents: tuple[float, float], kind: str, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(0, 100, (1, 1, count)).astype(np.float32)
    if kind == "whole numbers":
        values = np.rint(values)
    elif kind != "noise":
        values[..., : count // 2] = values[0, 0, -1]
    before = values.copy()
    expected = np.percentile(values, percents).astype(np.float32)
    assert percentiles(values, percents) == tuple(expected)
    np.testing.assert_array_equal(values, before)


def test_values_are_counted_in_all_chunks(monkeypatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 7)
    values = np.random.default_rng(0).normal(0, 1e-3, 100).astype(np.float32)
    assert percentiles(values, (3.0, 60.0)) == tuple(np.percentile(values, (3.0, 60.0)).astype(np.float32))


def test_a_sample_that_misleads_changes_nothing() -> None:
    values = np.random.default_rng(0).normal(0, 1, 5000).astype(np.float32)
    values[:: module.STRIDE] = 1e6
    assert percentiles(values, (40.0, 70.0)) == tuple(np.percentile(values, (40.0, 70.0)).astype(np.float32))
