"""Finding the same volume twice: against comparing all pairs in all flips, and fast enough for large collections."""

import time
from itertools import product

import numpy as np
import pytest

from jcl.checks import duplicates
from jcl.checks.duplicates import THUMBNAIL, Thumbnail, area_weights, connected, similar_pairs
from support.effort import slowness


def thumbnail(volume: np.ndarray) -> np.ndarray | None:
    made = Thumbnail(len(volume), volume.shape[1:])
    for number, pixels in enumerate(volume.astype(np.float32)):
        made.add(number, pixels)
    return made.normalised()


def test_a_thumbnail_is_the_mean_over_boxes() -> None:
    volume = np.random.default_rng(0).random((24, 48, 32))
    boxes = volume.reshape(8, 3, 16, 3, 16, 2).mean(axis=(1, 3, 5))
    boxes -= boxes.mean()
    assert thumbnail(volume) == pytest.approx(boxes / np.linalg.norm(boxes), abs=1e-6)


@pytest.mark.parametrize(("bins", "size"), [(16, 1), (16, 5), (8, 8), (16, 37), (8, 100)])
def test_shares_of_any_size(bins: int, size: int) -> None:
    """Of 1000 points in each box, how many lie in each pixel."""
    points = (np.arange(1000 * bins) + 0.5) / (1000 * bins) * size
    counts = [np.bincount(box.astype(int), minlength=size) / 1000 for box in points.reshape(bins, -1)]
    assert area_weights(bins, size) == pytest.approx(np.array(counts), abs=2e-3)


def test_nothing_to_see_has_no_thumbnail() -> None:
    assert thumbnail(np.zeros((3, 9, 9))) is None
    assert thumbnail(np.full((3, 9, 9), 0.7)) is None


def make_thumbnails(count: int, alike: float) -> np.ndarray:
    """Random ones with a common part, so that two correlate by about `alike`."""
    random = np.random.default_rng(0)
    common = random.normal(size=THUMBNAIL)
    own = random.normal(size=(count, *THUMBNAIL)) * np.sqrt(1 / alike - 1)
    made = common + own - (common + own).mean(axis=(1, 2, 3), keepdims=True)
    return (made / np.sqrt((made**2).sum(axis=(1, 2, 3), keepdims=True))).astype(np.float32)


def test_pairs_are_those_of_comparing_all_in_all_flips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "BLOCK", 7)
    made = make_thumbnails(40, 0.5)
    for target, (source, flips) in {
        30: (2, (1, 1, 1)),
        31: (9, (-1, 1, -1)),
        8: (7, (1, -1, 1)),
        39: (2, (-1, -1, -1)),
    }.items():
        noise = 0.03 / np.sqrt(made[0].size) * np.random.default_rng(target).normal(size=THUMBNAIL)
        made[target] = made[source][:: flips[0], :: flips[1], :: flips[2]] + noise
    patients = [f"p{number}" for number in range(40)]
    patients[8] = patients[7]
    for least in (0.4, 0.6, 0.99):
        expected = {}
        for a in range(40):
            for b in range(a + 1, 40):
                best = max(float((made[a] * made[b][::z, ::y, ::x]).sum()) for z, y, x in product((1, -1), repeat=3))
                if best >= least and patients[a] != patients[b]:
                    expected[a, b] = best
        found = {(a, b): r for a, b, r in similar_pairs(made, patients, least=least)}
        assert found == pytest.approx(expected, abs=1e-5)
    assert set(found) == {(2, 30), (9, 31), (2, 39), (30, 39)}


def test_groups() -> None:
    assert connected([]) == []
    assert connected([(5, 9), (1, 2), (2, 7), (0, 5), (7, 1)]) == [[0, 5, 9], [1, 2, 7]]


@pytest.mark.slow
def test_ten_thousand_cases_take_seconds() -> None:
    """As like each other as the most similar of real patients; about 1 s of one core where this was written."""
    made = make_thumbnails(10_000, 0.89)
    made[9000] = made[17][::-1]
    begun = time.process_time()
    found = list(similar_pairs(made, [str(number) for number in range(10_000)]))
    assert time.process_time() - begun < 20 * slowness()
    assert [pair[:2] for pair in found] == [(17, 9000)]
