"""Pooled scores against what the JCL authors' program gives, and by hand.

`oracles/pooled_metric.npz` holds labels and the results of MACL's metrics.py and train_supervised.py
(github.com/stevezs315/MACL at 89e01cb, medpy 0.5.2) on them: of four cases, and of some of them together.
"""

from pathlib import Path

import numpy as np
import pytest

from jcl.metrics import METRICS, score_case
from jcl.pooled import Pool

FILE = Path(__file__).parent / "oracles" / "pooled_metric.npz"

TOGETHER = {
    **{name: (name,) for name in ("c0", "c1", "c2", "c3")},
    "pool_c0_c3": ("c0", "c3"),
    "pool_c0_c3_batch3": ("c0", "c3"),
    "pool_all_as_5": ("c0", "c1", "c2", "c3"),
}


@pytest.fixture(scope="module")
def theirs() -> dict[str, np.ndarray]:
    return dict(np.load(FILE))


@pytest.mark.parametrize("name", TOGETHER)
def test_scores_are_those_of_the_authors_program(theirs, name):
    """With classes that are never predicted, that are in neither, and slices that are empty in one or the other."""
    classes, batch_size = int(theirs[f"{name}.classes"]) - 1, int(theirs[f"{name}.batch"])
    pool = Pool(classes, batch_size=batch_size)
    for case in TOGETHER[name]:
        pool.add(theirs[f"{case}.prediction"], theirs[f"{case}.truth"])
    found = pool.result()
    rows = list(found["mean"]["classes"].values())
    for ours, their, near in (
        ("dice", "dice", 1e-12),
        ("jaccard", "iou", 1e-12),
        ("intersection", "intersection", 0),
        ("union", "union", 0),
        ("hd95", "hd95", 1e-6),
        ("asd", "asd", 1e-6),
    ):
        assert [row[ours] for row in rows] == pytest.approx(theirs[f"{name}.{their}"].tolist(), rel=near, abs=near)
    assert found["mean"]["dice"] == pytest.approx(float(theirs[f"{name}.mean_dice"]), rel=1e-12)
    assert found["mean"]["jaccard"] == pytest.approx(float(theirs[f"{name}.mean_iou"]), rel=1e-12)
    assert found["pixel_accuracy"] == pytest.approx(float(theirs[f"{name}.pixel_accuracy"]), rel=1e-12)
    assert found["slices"] == sum(len(theirs[f"{case}.truth"]) for case in TOGETHER[name])
    for metric in METRICS:
        assert found["mean"][metric] == pytest.approx(np.mean([row[metric] for row in rows]))


def test_what_is_pooled_is_no_mean_over_cases():
    """A large case that is right and a small one that is missed: the small one hardly counts, and its distance is 0."""
    large, small = np.zeros((2, 8, 8), int), np.zeros((1, 8, 8), int)
    large[:, 2:6, 1:7], small[0, 0, 0] = 1, 1
    pool = Pool(["A"], batch_size=5)
    pool.add(large, large)
    pool.add(np.zeros_like(small), small)
    found = pool.result()["mean"]["classes"]["A"]
    assert found == {
        "dice": pytest.approx(96 / 97), "jaccard": pytest.approx(48 / 49), "hd95": 0, "asd": 0,
        "intersection": 48, "union": 49,
    }  # fmt: skip
    missed = score_case(np.zeros_like(small), small, classes=["A"], spacing=(1, 1, 1))["A"]
    assert missed["dice"] == 0
    assert missed["hd95"] > 10


def test_ignored_voxels_are_not_counted():
    truth, prediction = np.zeros((1, 4, 4), int), np.zeros((1, 4, 4), int)
    truth[0, :2], prediction[0, 1:3] = 1, 1
    ignored = np.zeros((1, 4, 4), bool)
    ignored[0, 2] = True
    marked = truth.copy()
    marked[ignored] = 255
    pool = Pool(1, batch_size=1)
    pool.add(prediction, marked, ignored=ignored)
    found = pool.result()
    assert (found["mean"]["classes"]["1"]["intersection"], found["mean"]["classes"]["1"]["union"]) == (4, 8)
    assert found["pixel_accuracy"] == 8 / 12


def test_what_cannot_be_pooled():
    with pytest.raises(ValueError, match="no slice"):
        Pool(1, batch_size=1).result()
    with pytest.raises(ValueError, match="labels from 2 to 2"):
        Pool(1, batch_size=1).add(np.full((1, 2, 2), 2), np.zeros((1, 2, 2), int))
    for shape in ((2, 2), (2, 2, 2)):
        with pytest.raises(ValueError, match=r"\(d, h, w\) is needed"):
            Pool(1, batch_size=1).add(np.zeros(shape, int), np.zeros((2, 2) if len(shape) == 2 else (1, 2, 2), int))
