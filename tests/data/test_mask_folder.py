"""Folders of masks, one a structure."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from jcl.config import PrepareConfig
from jcl.data.cases import find_cases
from jcl.data.datasets import load_spec
from jcl.data.store import Store
from jcl.errors import DataError
from jcl.stages.prepare import prepare

SHAPE = (6, 24, 24)


def save(path: Path, array: np.ndarray, spacing: tuple[float, float, float] = (1.5, 1.5, 5.0)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))
    return path


def box(*sides: slice) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[sides] = 1
    return mask


LIVER = box(slice(1, 4), slice(3, 12), slice(3, 12))
SPLEEN = box(slice(2, 5), slice(10, 14), slice(10, 14))
EMPTY = np.zeros(SHAPE, np.uint8)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two patients as in TotalSegmentator's data set, with an empty mask; liver and spleen overlap."""
    folder = tmp_path / "scans"
    for number in range(2):
        noise = np.random.default_rng(number).normal(100, 20, SHAPE).astype(np.float32)
        save(folder / f"s{number}" / "ct.nii.gz", noise)
        for name, mask in {"liver": LIVER, "spleen": SPLEEN, "brain": EMPTY}.items():
            save(folder / f"s{number}" / "segmentations" / f"{name}.nii.gz", mask * (255 if number else 1))
    return folder


def test_each_file_is_a_structure(scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(PrepareConfig(source=scans, out=tmp_path / "store", workers=1))
    store = Store.open(tmp_path / "store")
    assert [(record.case, record.labelled) for record in store.cases] == [("s0_ct", True), ("s1_ct", True)]
    assert store.class_names == ("liver", "spleen")
    rows, columns = store.content(0)
    found = np.stack([store.label(0, number)[rows, columns] for number in range(SHAPE[0])])
    np.testing.assert_array_equal(found, np.where(SPLEEN == 1, 2, LIVER))
    said = capsys.readouterr().err
    assert "folders of masks, one a structure: s0/segmentations, s1/segmentations" in said
    assert "structures overlap in 8 voxels, which were given to the smaller one" in said


def test_those_that_are_named_are_taken(scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(PrepareConfig(source=scans, out=tmp_path / "store", labels="7=Spleen", workers=1))
    store = Store.open(tmp_path / "store")
    assert [record.voxels for record in store.cases] == [(48,), (48,)]
    assert "left out" not in capsys.readouterr().err


def test_a_mask_has_one_value_and_the_voxels_of_its_scan(scans: Path, tmp_path: Path) -> None:
    save(scans / "s0" / "segmentations" / "liver.nii.gz", LIVER + SPLEEN)
    save(scans / "s1" / "segmentations" / "liver.nii.gz", LIVER, (1.5, 1.5, 4.0))
    with pytest.raises(DataError, match=r"of the 2 cases can .*liver\.nii\.gz: has the values 1, 2 where a mask"):
        prepare(PrepareConfig(source=scans, out=tmp_path / "store", workers=1, labels="1=liver"))
    save(scans / "s0" / "segmentations" / "liver.nii.gz", LIVER)
    store = prepare(PrepareConfig(source=scans, out=tmp_path / "other", workers=1, labels="1=liver"))
    (skipped,) = store.skipped
    assert skipped.reason.startswith("s1/segmentations/liver.nii.gz: its voxels are not those of its image (")


@pytest.mark.parametrize(
    "files",
    [
        ["a/ct.nii.gz", "a/mr.nii.gz", "a/labels/liver.nii.gz"],  # of which scan?
        ["ct.nii.gz", "labels/liver.nii.gz"],  # labels of all patients, one of whom is missing
        ["a/ct.nii.gz", "a/labels/ct.nii.gz", "a/labels/liver.nii.gz"],  # there is a label of the scan's name
    ],
)
def test_what_is_not_certain_is_refused(tmp_path: Path, files: list[str]) -> None:
    for name in files:
        save(tmp_path / name, LIVER)
    with pytest.raises(DataError, match=r"liver\.nii\.gz: this label has no image"):
        find_cases(tmp_path, load_spec("auto"))
