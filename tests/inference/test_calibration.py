"""Expected calibration error: compared with a loop over voxels; correlations with small ones by hand."""

import numpy as np
import pytest
import torch

from inference.test_doubt import scores_of
from jcl.inference.calibration import BINS, Calibration, doubt_against_dice, rank_correlation


def slow(scores: np.ndarray, truth: np.ndarray, ignored: np.ndarray) -> tuple[float, list[int]]:
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for z, y, x in np.ndindex(truth.shape):
        p = scores[z, :, y, x].astype(float)
        won, counted = int(p.argmax()), truth[z, y, x] > 0 or p.argmax() > 0 or p[0] <= 0.95
        if counted and not ignored[z, y, x]:
            bins[min(int(p.max() * BINS), BINS - 1)].append((p.max(), won == truth[z, y, x]))
    total = sum(map(len, bins))
    error = sum(
        len(some) / total * abs(np.mean([c for c, _ in some]) - np.mean([r for _, r in some])) for some in bins if some
    )
    return error, [len(some) for some in bins]


@pytest.mark.parametrize("some_ignored", [False, True])
def test_as_by_a_loop(some_ignored: bool):
    scores = scores_of(3, (6, 9, 8))
    random = np.random.default_rng(1)
    truth = np.where(random.random((6, 9, 8)) < 0.6, scores.argmax(1), random.integers(0, 3, (6, 9, 8)))
    ignored = (random.random(truth.shape) < 0.3) & some_ignored
    calibration = Calibration()
    for z in range(6):
        own = torch.from_numpy(scores[z])
        calibration.add(own, own.argmax(0), torch.from_numpy(truth[z]), torch.from_numpy(ignored[z]))
    found = calibration.result()
    error, voxels = slow(scores, truth, ignored)
    assert found["ece"] == pytest.approx(error, abs=1e-6)
    assert [each["voxels"] for each in found["bins"]] == voxels
    assert found["voxels"] == sum(voxels) > 0
    for each in found["bins"]:
        if each["voxels"]:
            assert each["low"] <= each["confidence"] <= each["high"]
            assert 0 <= each["accuracy"] <= 1
        else:
            assert each["confidence"] is each["accuracy"] is None


def test_background_beyond_doubt_does_not_count():
    scores = torch.tensor([0.99, 0.01])[:, None, None].expand(2, 4, 4)
    calibration, nothing = Calibration(), torch.zeros(4, 4, dtype=torch.long)
    calibration.add(scores, nothing, nothing)
    assert calibration.result()["ece"] is None
    calibration.add(scores, nothing, torch.eye(4, dtype=torch.long))  # but what was missed for sure does
    assert calibration.result()["ece"] == pytest.approx(0.99)


def test_rank_correlation():
    assert rank_correlation([(0.1, 0.9), (0.2, 0.8), (0.7, 0.1)]) == pytest.approx(-1)
    assert rank_correlation([(1, 1), (2, 3), (3, 2), (4, 4)]) == pytest.approx(0.8)
    assert rank_correlation([(1, 1), (2, 3), (None, 2)]) is None
    assert rank_correlation([(1, 5), (2, 5), (3, 5)]) is None


def test_doubt_against_dice_is_of_the_case_and_of_each_class():
    def entry(doubt, dice):
        return {"doubt": doubt, "classes": {"A": {"dice": dice}}, "structures": {"A": {"doubt": 1 - doubt}}}

    found = doubt_against_dice([entry(0.1, 0.9), entry(0.2, 0.8), entry(0.3, 0.7), entry(0.4, None)])
    assert found == {"case": pytest.approx(-1), "classes": {"A": pytest.approx(1)}}
