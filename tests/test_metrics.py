"""Metrics against an all-pairs program, recorded values of MONAI, the table of empty masks, and by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from jcl.metrics import METRICS, bootstrap_interval, score_case, summarise

SPACING = (3.0, 0.7, 1.1)


def slow_surface(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Voxels of the mask with a face neighbour that is not in it, one by one."""
    voxels = {tuple(int(i) for i in place) for place in np.argwhere(mask)}

    def neighbours(place):
        for axis, step in itertools.product(range(len(place)), (-1, 1)):
            yield (*place[:axis], place[axis] + step, *place[axis + 1 :])

    return sorted(place for place in voxels if not all(n in voxels for n in neighbours(place)))


def slow_percentile(values: list[float], share: float) -> float:
    """Linear between the two nearest ranks."""
    ordered = sorted(values)
    rank = share * (len(ordered) - 1)
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (rank - low) * (ordered[high] - ordered[low])


def slow_scores(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float | None]:
    p, t = ({tuple(place) for place in np.argwhere(mask).tolist()} for mask in (prediction, truth))
    if not p and not t:
        return dict.fromkeys(METRICS)
    if not p or not t:
        diagonal = math.sqrt(sum((n * s) ** 2 for n, s in zip(truth.shape, spacing, strict=True)))
        return {"dice": 0, "jaccard": 0, "hd95": diagonal, "asd": diagonal}
    surfaces = slow_surface(prediction), slow_surface(truth)

    def distances(origin, target):
        return [min(math.dist(np.multiply(a, spacing), np.multiply(b, spacing)) for b in target) for a in origin]

    there, back = distances(*surfaces), distances(*reversed(surfaces))
    return {
        "dice": 2 * len(p & t) / (len(p) + len(t)),
        "jaccard": len(p & t) / len(p | t),
        "hd95": max(slow_percentile(there, 0.95), slow_percentile(back, 0.95)),
        "asd": sum(there + back) / (len(there) + len(back)),
    }


def check_against_slow(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...], classes: int) -> None:
    scores = score_case(prediction, truth, classes=classes, spacing=spacing)
    assert list(scores) == [str(number) for number in range(1, classes + 1)]
    for number in range(1, classes + 1):
        slow = slow_scores(prediction == number, truth == number, spacing)
        assert scores[str(number)] == (slow if slow["dice"] is None else pytest.approx(slow, rel=1e-9))


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radius: float) -> np.ndarray:
    grid = np.indices(shape).T - np.array(centre)
    return (np.linalg.norm(grid, axis=-1) < radius).T.astype(np.uint8)


@st.composite
def label_pairs(draw):
    """Two label arrays of one shape, 2-D or 3-D: noise, or boxes that may touch or leave the border."""
    shape = draw(arrays.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6))
    pair = []
    for _ in range(2):
        if draw(st.booleans()):
            pair.append(draw(arrays.arrays(np.uint8, shape, elements=st.integers(0, 2))))
        else:
            labels = np.zeros(shape, np.uint8)
            for value in (1, 2):
                bounds = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
                labels[tuple(slice(*bound) for bound in bounds)] = value
            pair.append(labels)
    spacing = draw(st.tuples(*[st.floats(0.25, 8)] * len(shape)))
    return *pair, spacing


@settings(max_examples=150, deadline=None)
@given(label_pairs())
def test_equal_to_all_pairs(case):
    prediction, truth, spacing = case
    check_against_slow(prediction, truth, spacing, 2)


@pytest.mark.parametrize(
    ("prediction", "truth", "spacing"),
    [
        (ball((12, 14, 13), (5, 6, 6), 4.3), ball((12, 14, 13), (6, 8, 5), 4.9), SPACING),
        (ball((12, 14, 13), (0, 0, 0), 5), ball((12, 14, 13), (1, 0, 2), 4), SPACING),  # in a corner
        (ball((9, 9, 9), (1, 1, 1), 1), ball((9, 9, 9), (7, 7, 7), 1), (1, 1, 1)),  # one voxel each, far apart
        (ball((16, 17), (8, 8), 5), ball((16, 17), (5, 10), 6), (0.5, 2.0)),
        (ball((1, 16, 17), (0, 8, 8), 5), ball((1, 16, 17), (0, 5, 10), 6), SPACING),
        (np.ones((4, 5, 6), int), ball((4, 5, 6), (2, 2, 2), 2), SPACING),
    ],
)
def test_shapes(prediction, truth, spacing):
    check_against_slow(prediction, truth, spacing, 1)


def test_recorded_values_of_monai():
    """MONAI 1.6.1: compute_dice, compute_iou, compute_hausdorff_distance(percentile=95) and
    compute_average_surface_distance(symmetric=True), spacing (3, 0.7, 1.1), on these two arrays."""
    shape = (14, 24, 22)
    truth = ball(shape, (6, 9, 8), 5.5)
    truth[ball(shape, (9, 20, 18), 5.2) > 0] = 2
    prediction = ball(shape, (6.5, 10, 7), 5.1)
    prediction[ball(shape, (10, 19, 19), 6.1) > 0] = 2
    prediction[0, 0, :3] = 1
    scores = score_case(prediction, truth, classes=["near", "far"], spacing=SPACING)
    expected = {"near": [0.771605, 0.628141, 3.0, 0.920389], "far": [0.855124, 0.746914, 1.4, 0.384741]}
    for name, values in expected.items():
        assert [scores[name][metric] for metric in METRICS] == pytest.approx(values, abs=1e-5)


TRUTH_TABLE = [
    # prediction, truth -> dice, jaccard, hd95, asd
    ("empty", "empty", (None, None, None, None)),
    ("empty", "some", (0, 0, "diagonal", "diagonal")),
    ("some", "empty", (0, 0, "diagonal", "diagonal")),
    ("some", "some", (1, 1, 0, 0)),
    ("some", "other", (0, 0, 6.0, 6.0)),
]


@pytest.mark.parametrize("shape", [(10, 8), (4, 10, 8)])
@pytest.mark.parametrize(("prediction", "truth", "expected"), TRUTH_TABLE)
def test_truth_table_of_empty_masks(shape, prediction, truth, expected):
    masks = {name: np.zeros(shape, np.uint8) for name in ("empty", "some", "other")}
    masks["some"][..., 2, 3] = 1
    masks["other"][..., 5, 3] = 1
    spacing = (5.0, 2.0, 1.5)[-len(shape) :]
    diagonal = math.hypot(*(n * s for n, s in zip(shape, spacing, strict=True)))
    scores = score_case(masks[prediction], masks[truth], classes=["x"], spacing=spacing)["x"]
    assert list(scores) == list(METRICS)
    assert tuple(scores.values()) == pytest.approx(tuple(diagonal if v == "diagonal" else v for v in expected))


@given(label_pairs())
@settings(max_examples=50, deadline=None)
def test_a_missed_structure_is_never_better(case):
    prediction, truth, spacing = case
    scores = score_case(prediction, truth, classes=2, spacing=spacing)
    without = score_case(np.where(prediction == 1, 0, prediction), truth, classes=2, spacing=spacing)
    if (truth == 1).any():
        assert without["1"]["dice"] <= scores["1"]["dice"]
        assert without["1"]["hd95"] >= scores["1"]["hd95"]
        assert without["1"]["asd"] >= scores["1"]["asd"]


def test_symmetric_and_the_same_from_every_side():
    prediction, truth = ball((12, 14, 13), (5, 6, 6), 4.3), ball((12, 14, 13), (6, 8, 5), 4.9)
    scores = score_case(prediction, truth, classes=1, spacing=SPACING)["1"]
    assert score_case(truth, prediction, classes=1, spacing=SPACING)["1"] == pytest.approx(scores)
    flipped = score_case(prediction[::-1, :, ::-1], truth[::-1, :, ::-1], classes=1, spacing=SPACING)["1"]
    assert flipped == pytest.approx(scores)
    turned = score_case(prediction.T, truth.T, classes=1, spacing=SPACING[::-1])["1"]
    assert turned == pytest.approx(scores)
    doubled = score_case(prediction, truth, classes=1, spacing=tuple(2 * s for s in SPACING))["1"]
    assert (doubled["dice"], doubled["hd95"]) == pytest.approx((scores["dice"], 2 * scores["hd95"]))


@pytest.mark.parametrize(
    "convert",
    [
        lambda a: a.astype(np.int64),
        lambda a: a.astype(bool),
        torch.from_numpy,
        lambda a: torch.from_numpy(a).long(),
        list,
    ],
)
def test_kinds_of_arrays(convert):
    prediction, truth = ball((5, 9, 8), (2, 4, 4), 2.5), ball((5, 9, 8), (2, 3, 4), 2.5)
    expected = score_case(prediction, truth, classes=1, spacing=SPACING)
    assert score_case(convert(prediction), convert(truth), classes=1, spacing=SPACING) == expected
    assert all(type(value) is float for value in expected["1"].values())


def test_names_and_many_classes():
    labels = np.arange(300).reshape(15, 20)
    scores = score_case(labels, labels, classes=[f"c{k}" for k in range(299)], spacing=(1, 1))
    assert list(scores) == [f"c{k}" for k in range(299)]
    assert all(values == {"dice": 1, "jaccard": 1, "hd95": 0, "asd": 0} for values in scores.values())


ONES = np.ones((3, 4, 5), np.uint8)


@pytest.mark.parametrize(
    ("prediction", "truth", "settings", "message"),
    [
        (ONES, ONES[:2], {}, "prediction has shape"),
        (2 * ONES, ONES, {}, "prediction has labels from 2 to 2; there are 1 classes: a"),
        (ONES, -ONES.astype(int), {}, "truth has labels from -1"),
        (ONES.astype(float), ONES, {}, "integer labels are needed"),
        (ONES[0, 0], ONES[0, 0], {}, "prediction has shape"),
        (ONES[None], ONES[None], {}, "prediction has shape"),
        (ONES[:0], ONES[:0], {}, "prediction has shape"),
        (ONES, ONES, {"spacing": (1, 1)}, "spacing is"),
        (ONES, ONES, {"spacing": (1, 0, 1)}, "spacing is"),
        (ONES, ONES, {"spacing": (1, math.nan, 1)}, "spacing is"),
        (ONES, ONES, {"spacing": (1, -1, 1)}, "spacing is"),
        (ONES, ONES, {"classes": 0}, "classes is 0"),
        (ONES, ONES, {"classes": []}, "at least one class"),
        (ONES, ONES, {"classes": ["a", "a"]}, "no name twice"),
        (ONES, ONES, {"classes": "LV"}, "names in a list"),
    ],
)
def test_what_is_refused(prediction, truth, settings, message):
    with pytest.raises(ValueError, match=message):
        score_case(prediction, truth, **{"classes": ["a"], "spacing": SPACING, **settings})


def entry(patient: str, *dice: float | None) -> dict:
    """A case with these Dice values; the other metrics follow from them."""
    classes = {
        name: dict.fromkeys(METRICS) if d is None else {"dice": d, "jaccard": d / 2, "hd95": 10 * d, "asd": d}
        for name, d in zip(("a", "b"), dice, strict=True)
    }
    return {"case": f"{patient}-1", "patient": patient, "classes": classes}


def test_summary_by_hand():
    summary = summarise([entry("p", 0.8, 0.6), entry("q", 0.5, None), entry("r", None, None)])
    assert summary["mean"]["classes"]["a"]["dice"] == pytest.approx(0.65)
    assert summary["mean"]["classes"]["b"]["dice"] == pytest.approx(0.6)
    assert summary["mean"]["dice"] == pytest.approx(0.6)  # of 0.7 and 0.5; the third case has nothing that counts
    assert summary["mean"]["hd95"] == pytest.approx(6)
    assert summary["std"]["dice"] == pytest.approx(math.sqrt(2 * 0.1**2))
    assert summary["std"]["classes"]["a"]["dice"] == pytest.approx(math.sqrt(2 * 0.15**2))
    assert summary["std"]["classes"]["b"]["dice"] is None
    low, high = summary["interval"]["dice"]
    assert (low, high) == pytest.approx((0.5, 0.7))


def test_summary_of_nothing_that_counts():
    summary = summarise([entry("p", None, None)])
    assert summary["mean"]["dice"] is None
    assert summary["mean"]["classes"]["b"]["asd"] is None
    assert summary["interval"]["dice"] is None


def test_summary_refuses():
    with pytest.raises(ValueError, match="no case"):
        summarise([])
    other = entry("q", 1, 1)
    del other["classes"]["b"]
    with pytest.raises(ValueError, match="differ in their classes"):
        summarise([entry("p", 1, 1), other])


def test_bootstrap_agrees_with_normal_theory():
    values = np.random.default_rng(3).normal(0.8, 0.1, size=60)
    interval = bootstrap_interval(values)
    assert interval is not None
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert interval == pytest.approx([values.mean() - half, values.mean() + half], abs=0.1 * half)
    assert bootstrap_interval(values) == interval
    assert bootstrap_interval(values, seed=1) != interval


def test_bootstrap_draws_patients():
    values = np.random.default_rng(4).normal(0.8, 0.1, size=12)
    names = [f"p{k}" for k in range(12)]
    alone = bootstrap_interval(values, names)
    assert bootstrap_interval(np.repeat(values, 5), np.repeat(names, 5).tolist()) == pytest.approx(alone)
    assert bootstrap_interval(np.append(values, np.nan), [*names, "x"]) == alone
    assert bootstrap_interval(values, ["p"] * 12) is None


# Voxels that are ignored


def slow_surface_of_counted(mask: np.ndarray, ignored: np.ndarray) -> list[tuple[int, ...]]:
    """Voxels of the mask with a face neighbour that is outside of it and counts, or beyond the border."""
    found = []
    for place in map(tuple, np.argwhere(mask).tolist()):
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            there = (*place[:axis], place[axis] + step, *place[axis + 1 :])
            inside = all(0 <= at < size for at, size in zip(there, mask.shape, strict=True))
            if not inside or not (mask[there] or ignored[there]):
                found.append(place)
                break
    return found


@pytest.mark.parametrize("seed", range(6))
def test_ignored_voxels_are_in_no_mask_and_make_no_surface(seed: int):
    """As MONAI's metrics came to have it: https://github.com/Project-MONAI/MONAI/issues/8734."""
    random = np.random.default_rng(seed)
    prediction, truth = (ndimage.zoom(random.integers(0, 2, (3, 4, 4)), 2, order=0) for _ in range(2))
    ignored = ndimage.zoom(random.random((3, 4, 4)) < 0.3, 2, order=0)
    changed = np.where(ignored, random.integers(0, 2, truth.shape), truth)
    found = score_case(prediction, truth, classes=1, spacing=SPACING, ignored=ignored)["1"]
    assert found == score_case(prediction, changed, classes=1, spacing=SPACING, ignored=ignored)["1"]
    p, t = (prediction > 0) & ~ignored, (truth > 0) & ~ignored
    assert found["dice"] == pytest.approx(2 * (p & t).sum() / (p.sum() + t.sum()))
    surfaces = [slow_surface_of_counted(mask, ignored) for mask in (p, t)]
    there, back = (
        [min(math.dist(np.multiply(a, SPACING), np.multiply(b, SPACING)) for b in target) for a in origin]
        for origin, target in (surfaces, surfaces[::-1])
    )
    assert found["asd"] == pytest.approx(sum(there + back) / len(there + back))
    assert found["hd95"] == pytest.approx(max(slow_percentile(there, 0.95), slow_percentile(back, 0.95)))


def test_a_labelled_slice_between_ignored_ones_is_scored_by_its_outlines():
    truth = np.zeros((5, 12, 12), int)
    truth[1:4, 3:9, 3:9] = 1
    prediction = np.roll(truth, 2, axis=2)
    ignored = np.ones(truth.shape, bool)
    ignored[2] = False
    found = score_case(prediction, truth, classes=1, spacing=(5.0, 1.0, 1.0), ignored=ignored)
    assert found == score_case(prediction[2], truth[2], classes=1, spacing=(1.0, 1.0))
    assert found["1"]["hd95"] == 2


def test_masks_that_ignored_voxels_empty_or_cut_off():
    truth = np.zeros((3, 6, 6), int)
    truth[:, :3] = 1
    everywhere = np.ones(truth.shape, bool)
    assert score_case(truth, truth, classes=1, spacing=SPACING, ignored=everywhere)["1"] == dict.fromkeys(METRICS)
    inside = np.ones(truth.shape, bool)
    inside[1, 1, 1:3] = False  # all that counts is within the structure, so nothing shows where it ends
    found = score_case(truth, truth, classes=1, spacing=SPACING, ignored=inside)["1"]
    assert found == {"dice": 1, "jaccard": 1, "hd95": 0, "asd": 0}
    with pytest.raises(ValueError, match=r"ignored has shape \(3, 6\)"):
        score_case(truth, truth, classes=1, spacing=SPACING, ignored=np.ones((3, 6), bool))
