"""The spacings, plane, modalities and unit of the scans that a network is trained on."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from jcl.config import PrepareConfig
from jcl.data.store import Store
from jcl.stages.prepare import prepare
from jcl.training.seen_scans import seen_scans

SPACINGS = {"a": (1.0, 1.25, 5.0), "b": (1.5, 1.5, 8.0), "far": (9.0, 9.0, 9.0), "bare": (0.1, 0.1, 0.1)}


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    for kind in ("images", "labels"):
        (tmp_path / "scans" / kind).mkdir(parents=True)
    noise = np.random.default_rng(0).normal(100, 20, (5, 24, 24)).astype(np.float32)
    for name, spacing in SPACINGS.items():
        for kind, array in (("images", noise), ("labels", (noise > 100).astype(np.uint8))):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing(spacing)
            if (name, kind) != ("bare", "labels"):
                sitk.WriteImage(image, str(tmp_path / "scans" / kind / f"{name}.nii.gz"))
    return tmp_path / "scans"


@pytest.mark.parametrize(
    ("settings", "seen"),
    [
        ({}, {"pixels": [1.0, 1.5], "slices": [5.0, 8.0]}),
        ({"spacing": 2.0}, {"slices": [5.0, 8.0]}),
        ({"size": 32, "fit": True}, {"slices": [5.0, 8.0]}),
        ({"spacing_through": 4.0}, {"pixels": [1.0, 1.5]}),
    ],
)
def test_labelled_cases_of_the_patients_count(scans: Path, tmp_path: Path, settings, seen) -> None:
    prepare(PrepareConfig(source=scans, out=tmp_path / "store", workers=1, **settings))
    assert seen_scans(Store.open(tmp_path / "store"), {"a", "b", "bare"})["seen_mm"] == seen


def turn(scans: Path, name: str, degrees: float) -> None:
    """About the axis from right to left."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    for kind in ("images", "labels"):
        image = sitk.ReadImage(scans / kind / f"{name}.nii.gz")
        image.SetDirection((1, 0, 0, 0, cos, -sin, 0, sin, cos))
        sitk.WriteImage(image, scans / kind / f"{name}.nii.gz")


def test_the_plane_is_the_middle_of_the_labelled(scans: Path, tmp_path: Path) -> None:
    turn(scans, "b", 20.0)
    turn(scans, "far", 90.0)
    prepare(PrepareConfig(source=scans, out=tmp_path / "store", workers=1))
    seen = seen_scans(Store.open(tmp_path / "store"), {"a", "b", "bare"})["seen_plane"]
    assert seen["direction"] == pytest.approx([0, -np.sin(np.radians(10)), np.cos(np.radians(10))], abs=2e-3)
    assert seen["within"] == pytest.approx(10, abs=0.1)


def test_where_a_header_states_no_place_no_plane_is_recorded(scans: Path, tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        path = scans / kind / "a.nii.gz"
        bare = nib.Nifti1Image(np.asarray(nib.load(path).dataobj), None)  # type: ignore[attr-defined]
        bare.header.set_zooms((1.0, 1.25, 5.0))
        bare.set_sform(None, 0)
        bare.set_qform(None, 0)
        nib.save(bare, path)
    prepare(PrepareConfig(source=scans, out=tmp_path / "store", workers=1))
    store = Store.open(tmp_path / "store")
    assert [bool(record.direction) for record in store.cases] == [record.case != "a" for record in store.cases]
    assert "seen_plane" not in seen_scans(store, {"a", "b"})
    assert "seen_plane" in seen_scans(store, {"b"})


def test_of_a_window_the_least_shares_outside_of_it(scans: Path, tmp_path: Path) -> None:
    image = sitk.ReadImage(scans / "images" / "b.nii.gz")
    sitk.WriteImage(image - 10, scans / "images" / "b.nii.gz")
    prepare(PrepareConfig(source=scans, out=tmp_path / "store", window=(80.0, 120.0), workers=1))
    store = Store.open(tmp_path / "store")
    values = {name: sitk.GetArrayFromImage(sitk.ReadImage(scans / "images" / f"{name}.nii.gz")) for name in "ab"}
    seen = seen_scans(store, {"a", "b", "bare"})["seen_outside"]
    assert seen == {
        "below": pytest.approx(float((values["a"] < 80).mean()), abs=1e-4),
        "above": pytest.approx(float((values["b"] > 120).mean()), abs=1e-4),
    }
    prepare(PrepareConfig(source=scans, out=tmp_path / "other", workers=1))
    assert {"seen_outside", "seen_modalities"}.isdisjoint(seen_scans(Store.open(tmp_path / "other"), {"a", "b"}))


def test_modalities_where_all_state_one(scans: Path, tmp_path: Path) -> None:
    prepare(PrepareConfig(source=scans, out=tmp_path / "store", workers=1))
    store = Store.open(tmp_path / "store")
    known = {"a": "MR", "b": "CT"}
    store.cases = tuple(replace(record, modality=known.get(record.case, "")) for record in store.cases)
    assert seen_scans(store, {"a", "b", "bare"})["seen_modalities"] == ["CT", "MR"]
    assert "seen_modalities" not in seen_scans(store, {"a", "b", "far"})
