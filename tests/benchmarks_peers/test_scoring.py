"""Segmentations made by hand, whose scores can be counted."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from benchmarks.peers.raw_data import draw
from benchmarks.peers.scoring import score, to_source

from jcl.data.splits import Split
from jcl.data.volumes import read_image
from jcl.errors import DataError

CLASSES = {1: 1, 2: 2}


@pytest.fixture
def split(source: Path) -> Split:
    return draw(source, labelled=2, fold=0)


def predict(source: Path, out: Path, split: Split, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """The true labels of the test patients, as classes, changed."""
    out.mkdir()
    for name in split.test:
        label = sitk.ReadImage(str(source / "labelsTr" / f"{name}.nii.gz"))
        values = sitk.GetArrayFromImage(label)
        image = sitk.GetImageFromArray(
            change(np.where(values == 200, 1, np.where(values == 500, 2, 0))).astype(np.uint8)
        )
        image.CopyInformation(label)
        sitk.WriteImage(image, str(out / f"{name}.nii.gz"))


def first_slice_only(classes: np.ndarray) -> np.ndarray:
    """Of the left box, which is in two slices, the second is missed: Dice is 2 * 1 / (1 + 2)."""
    found = classes.copy()
    found[2][found[2] == 1] = 0
    return found


def test_the_truth_scores_one_and_half_of_a_box_two_thirds(source: Path, split: Split, tmp_path: Path):
    predict(source, tmp_path / "all", split, lambda classes: classes)
    results = score(tmp_path / "all", source, split, values=CLASSES)
    assert [case["patient"] for case in results["cases"]] == list(split.test)
    assert results["mean"]["dice"] == 1
    assert results["mean"]["hd95"] == 0
    predict(source, tmp_path / "half", split, first_slice_only)
    mean = score(tmp_path / "half", source, split, values=CLASSES)["mean"]["classes"]
    assert mean["left"]["dice"] == pytest.approx(2 / 3)
    assert mean["right"]["dice"] == 1
    assert mean["left"]["hd95"] == pytest.approx(8), "a slice is 8 mm thick"


def test_nothing_found_is_no_dice(source: Path, split: Split, tmp_path: Path):
    predict(source, tmp_path / "none", split, np.zeros_like)
    assert score(tmp_path / "none", source, split, values=CLASSES)["mean"]["dice"] == 0


def test_values_of_the_source_are_scored_by_their_class(source: Path, split: Split, tmp_path: Path):
    predict(source, tmp_path / "all", split, lambda classes: 100 * classes)
    results = score(tmp_path / "all", source, split, values={100: 2, 200: 1})
    assert results["mean"]["dice"] == 0, "the two structures are exchanged"
    assert score(tmp_path / "all", source, split, values={100: 1, 200: 2})["mean"]["dice"] == 1


def test_a_missing_segmentation_is_not_left_out_of_the_mean(source: Path, split: Split, tmp_path: Path):
    predict(source, tmp_path / "all", split, lambda classes: classes)
    (tmp_path / "all" / f"{split.test[-1]}.nii.gz").unlink()
    with pytest.raises(DataError, match=f"{split.test[-1]}.nii.gz: missing"):
        score(tmp_path / "all", source, split, values=CLASSES)


def test_a_segmentation_that_lies_elsewhere_is_refused(source: Path, split: Split, tmp_path: Path):
    predict(source, tmp_path / "all", split, lambda classes: classes)
    path = str(tmp_path / "all" / f"{split.test[0]}.nii.gz")
    image = sitk.ReadImage(path)
    image.SetOrigin((0.0, 0.0, 0.0))
    sitk.WriteImage(image, path)
    with pytest.raises(DataError, match="apart"):
        score(tmp_path / "all", source, split, values=CLASSES)


def test_a_value_that_is_no_class_is_refused(source: Path, split: Split, tmp_path: Path):
    predict(source, tmp_path / "all", split, lambda classes: classes + 3)
    with pytest.raises(DataError, match="unknown label values"):
        score(tmp_path / "all", source, split, values=CLASSES)


def test_labels_of_a_coarser_grid_come_back_to_the_scans(source: Path, split: Split, tmp_path: Path):
    volume = read_image([source / "imagesTr" / f"{split.test[0]}.nii.gz"])
    depth, rows, columns = volume.array.shape[1:]
    coarse = np.zeros((depth, rows // 2, columns // 2), np.uint8)
    coarse[1, 2:6, 3:7] = 2
    sitk.WriteImage(sitk.GetImageFromArray(coarse), str(tmp_path / "coarse.nii.gz"))
    fine = to_source(tmp_path / "coarse.nii.gz", volume)
    assert fine.shape == (depth, rows, columns)
    expected = coarse.repeat(2, axis=1).repeat(2, axis=2)
    differs = fine != expected
    assert differs.sum() <= 4, "interpolated shares may round the corners off, and nothing else"
    assert set(np.unique(fine)) == {0, 2}
    sitk.WriteImage(sitk.GetImageFromArray(coarse[1:]), str(tmp_path / "short.nii.gz"))
    with pytest.raises(DataError, match="3 slices, but its scan has 4"):
        to_source(tmp_path / "short.nii.gz", volume)
