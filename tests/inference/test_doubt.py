"""Doubt: compared with loops over voxels and their neighbours."""

import itertools
import math

import numpy as np
import pytest
import torch

from jcl.inference.doubt import FLOOR, Doubt, DoubtTally, doubt_map, doubt_of_case, of_structures


def scores_of(seed: int, shape=(5, 6, 7), classes: int = 3) -> np.ndarray:
    """(d, k, h, w), in which each class wins somewhere."""
    logits = np.random.default_rng(seed).normal(0, 2, (shape[0], classes, *shape[1:]))
    e = np.exp(logits)
    return (e / e.sum(1, keepdims=True)).astype(np.float32)


def slow(scores: np.ndarray, value: int) -> tuple[int, float, float]:
    d, k, h, w = scores.shape
    classes = scores.argmax(1)
    near, inside, mass, voxels = [], 0.0, 0.0, 0
    for z, y, x in itertools.product(range(d), range(h), range(w)):
        p = [float(scores[z, c, y, x]) for c in range(k)]
        if p[value] >= FLOOR:
            mass += p[value]
        if classes[z, y, x] == value:
            voxels += 1
            inside += p[value] if p[value] >= FLOOR else 0
        around = classes[max(z - 1, 0) : z + 2, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        if (around == value).any():
            near.append(-sum(q * math.log(q) for q in p) / math.log(k))
    return voxels, sum(near) / len(near), 2 * inside / (mass + voxels)


@pytest.mark.parametrize("slices", [1, 2, 5])
def test_as_by_loops(slices: int):
    scores = scores_of(slices, (slices, 6, 7))
    tally = DoubtTally(2)
    for each in torch.from_numpy(scores):
        tally.add(each, each.argmax(0))
    for value, found in enumerate(tally.result(), start=1):
        voxels, doubt, expected = slow(scores, value)
        assert (found.voxels, found.doubt, found.expected_dice) == (
            voxels, pytest.approx(doubt, abs=1e-6), pytest.approx(expected, abs=1e-6),
        )  # fmt: skip


def test_the_map_goes_from_sure_to_clueless():
    sure = torch.tensor([1.0, 0, 0])[:, None, None]
    assert doubt_map(sure).item() == 0
    assert doubt_map(torch.full((3, 1, 1), 1 / 3)).item() == pytest.approx(1)
    half = doubt_map(torch.tensor([0.5, 0.5, 0])[:, None, None]).item()
    assert half == pytest.approx(math.log(2) / math.log(3))


def test_a_structure_that_is_not_found_is_in_no_doubt():
    tally = DoubtTally(2)
    scores = torch.tensor([0.2, 0.8, 0.0])[:, None, None].expand(3, 4, 4)
    tally.add(scores, scores.argmax(0))
    first, second = tally.result()
    assert second == Doubt(0, None, None)
    assert doubt_of_case([first, second]) == first.doubt
    assert doubt_of_case([second]) is None
    said = of_structures([first, second], ["A", "B"])
    assert said["structures"]["B"] == {"doubt": None, "expected_dice": None}
    assert said["structures"]["A"]["expected_dice"] == pytest.approx(2 * 0.8 / 1.8, abs=1e-6)
