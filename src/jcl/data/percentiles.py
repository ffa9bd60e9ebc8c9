"""Percentiles of a volume as NumPy has them, to the last bit, without sorting it and without a copy of it.

A sample says between which two values a percentile lies; those below are counted, and only those between are sorted.
"""

import math

import numpy as np
from jaxtyping import Float32

__all__ = ["percentiles"]

CHUNK = 1 << 15
"""Values taken at a time, which a core's cache holds."""

STRIDE = 61
"""Of the sample; a prime number, so that it does not fall on the same columns again and again."""


def percentiles(values: Float32[np.ndarray, "..."], percents: tuple[float, float]) -> tuple[np.float32, np.float32]:
    """Two percentiles, as `numpy.percentile` computes them. No value may be NaN."""
    flat = values.reshape(-1)
    sample = np.sort(flat[::STRIDE])
    found: list[np.float32] = []
    for percent in percents:
        rank = percent / 100 * (flat.size - 1)
        at, share = int(rank), rank % 1
        low, high = _ranked(flat, sample, at, min(at + 1, flat.size - 1))
        step = float(high - low)
        # from the nearer end, as NumPy does
        found.append(np.float32(float(low) + step * share if share < 0.5 else float(high) - step * (1 - share)))
    return found[0], found[1]


def _ranked(
    flat: Float32[np.ndarray, " n"], sample: Float32[np.ndarray, " m"], first: int, last: int
) -> tuple[np.float32, np.float32]:
    """The values of two neighbouring ranks, counted from 0."""
    share = first / flat.size
    margin = 2 + 5 * math.sqrt(len(sample) * share * (1 - share))
    start, end = int(share * len(sample) - margin), int(share * len(sample) + margin) + 1
    floor = sample[start] if start > 0 else np.float32(-np.inf)
    ceiling = sample[end] if end < len(sample) else np.float32(np.inf)
    below = 0
    between: list[Float32[np.ndarray, " k"]] = []
    for at in range(0, flat.size, CHUNK):
        chunk = flat[at : at + CHUNK]
        under = chunk < floor
        below += int(np.count_nonzero(under))
        within = chunk <= ceiling
        within ^= under
        between.append(chunk[within])
    near = np.sort(np.concatenate(between))
    if first < below or last >= below + near.size:  # the sample misled
        near, below = np.sort(flat), 0
    return near[first - below], near[last - below]
