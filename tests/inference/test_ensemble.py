"""Several runs: their mean by hand, on one grid and on two, and who is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

import jcl
from jcl.data.context import with_context
from jcl.data.resampling import prepare_volume
from jcl.data.volumes import read_image
from jcl.errors import DataError, UsageError
from jcl.inference.ensemble import check_prepared_alike, load_members, make_groups, parts_of, slice_scores
from jcl.training.run_folder import load_network
from stages.test_predict import save, scan
from support.thresholds import make_recipe_of, threshold_network, write_run

CPU = torch.device("cpu")
LABELS = {205: "Myo"}


def run_of(folder: Path, threshold: float, *, labels=None, channels: int = 1, **recipe) -> Path:
    network = threshold_network(threshold, *([0.9] * (len(labels or LABELS) - 1)), channels=channels)
    recipe = make_recipe_of(labels or LABELS, channels=channels, **recipe)
    return write_run(folder, network, recipe)


def scores_of(runs: list[Path], source: Path, batch_size: int = 3) -> tuple[np.ndarray, list]:
    members = load_members(runs, load_network)
    groups = make_groups(members, CPU, torch.float32)
    volume = read_image([source])
    shape, parts = volume.geometry.shape, parts_of(groups, volume, batch_size)
    slices = slice_scores(groups, parts, shape, spacing=1.0, batch_size=batch_size, device=CPU, precision=torch.float32)
    return torch.stack(list(slices)).numpy(), groups


def by_hand(run: Path, source: Path, shape: tuple[int, int]) -> np.ndarray:
    """The whole volume at once, padded by hand, and brought to its own grid."""
    network, info = load_network(run)
    array, _ = prepare_volume(read_image([source]), info["recipe"])
    (h, w), padded = array.shape[2:], info["recipe"]["padded"]
    rows, columns = max(padded[0], h), max(padded[1], w)
    top, left = (rows - h) // 2, (columns - w) // 2
    framed = np.zeros((array.shape[1], 1, rows, columns), np.float32)
    framed[:, :, top : top + h, left : left + w] = array.swapaxes(0, 1)
    with torch.no_grad():
        scores = network(torch.from_numpy(framed)).softmax(1)[:, :, top : top + h, left : left + w]
    if scores.shape[2:] != shape:
        scores = torch.nn.functional.interpolate(scores, shape, mode="bilinear", align_corners=False, antialias=True)
    return scores.numpy()


@pytest.mark.parametrize("grids", [(None, None, None), (None, 1.7, None), (0.8, 1.7, 0.8)])
def test_the_mean_is_that_of_the_runs(tmp_path: Path, grids):
    """Slices that are prepared alike are prepared once; others meet on the scan's own grid."""
    thresholds = (0.3, 0.5, 0.62)
    runs = [
        run_of(tmp_path / f"run-{n}", threshold, spacing=spacing, padded=(24, 24))
        for n, (threshold, spacing) in enumerate(zip(thresholds, grids, strict=True))
    ]
    source = save(tmp_path / "x.nii.gz", scan(7, 13, 18), spacing=(1.1, 1.4, 6.0))
    found, groups = scores_of(runs, source)
    assert len(groups) == len(set(grids))
    assert sum(group.share for group in groups) == pytest.approx(1)
    expected = np.mean([by_hand(run, source, (13, 18)) for run in runs], axis=0)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_one_run_is_its_own_network(tmp_path: Path):
    (member,) = load_members([run_of(tmp_path / "run", 0.5)], load_network)
    (group,) = make_groups([member], CPU, torch.float32)
    assert group.network is member.network


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"labels": {205: "LV"}}, "classes"),
        ({"labels": {7: "Myo"}}, "label values"),
        ({"labels": {205: "Myo", 3: "LV"}}, "classes"),
        ({"channels": 2}, "number of channels"),
    ],
)
def test_runs_that_do_not_agree_are_named(tmp_path: Path, other: dict, what: str):
    runs = [run_of(tmp_path / "one", 0.5), run_of(tmp_path / "two", 0.5, **other)]
    with pytest.raises(DataError, match=f"one and .*two have not the same {what} ") as caught:
        load_members(runs, load_network)
    assert "\n" not in str(caught.value)


def test_none_and_twice(tmp_path: Path):
    run = run_of(tmp_path / "one", 0.5)
    with pytest.raises(UsageError, match="at least one"):
        load_members([], load_network)
    with pytest.raises(UsageError, match="given twice"):
        load_members([run, tmp_path / "one" / ".." / "one"], load_network)


def test_a_segmenter_of_several(tmp_path: Path):
    runs = [run_of(tmp_path / f"run-{n}", threshold) for n, threshold in enumerate((0.3, 0.5, 0.62))]
    source = save(tmp_path / "x.nii.gz", scan(4, 9, 8), spacing=(1, 1, 5))
    labels = jcl.load(runs).segment(source, precision="float32")
    found, _ = scores_of(runs, source)
    expected = np.where(found.argmax(1), 205, 0)
    assert np.array_equal(np.sort(labels.ravel()), np.sort(expected.ravel()))
    assert np.array_equal(jcl.load([runs[0]]).segment(source), jcl.load(runs[0]).segment(source))
    with pytest.raises(DataError, match="prepare their slices differently"):
        jcl.load([runs[0], run_of(tmp_path / "finer", 0.5, spacing=0.7)])


def test_runs_that_see_other_neighbours_meet_on_the_scans_grid(tmp_path: Path):
    """Each gathers its own: by itself a slice is dark or bright; with neighbours the network looks at the next one."""
    recipe = make_recipe_of(LABELS, padded=(24, 24))
    runs = [run_of(tmp_path / "alone", 0.5, padded=(24, 24))]
    runs += [write_run(tmp_path / "with", threshold_network(0.5, channels=3), with_context(recipe, 1))]
    source = save(tmp_path / "x.nii.gz", scan(7, 13, 18), spacing=(1.1, 1.4, 6.0))
    found, groups = scores_of(runs, source)
    assert len(groups) == 2
    alone = by_hand(runs[0], source, (13, 18))
    behind = alone[[1, 2, 3, 4, 5, 6, 6]]
    np.testing.assert_allclose(found, (alone + behind) / 2, atol=2e-5)
    members = load_members(runs, load_network)
    with pytest.raises(DataError, match=r"alone and .*with see .* other neighbours \(context 0 and 1\); `jcl predict`"):
        check_prepared_alike(members)
    with pytest.raises(DataError, match="other neighbours"):
        jcl.load(runs)
