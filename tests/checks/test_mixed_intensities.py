"""Cases of another modality, and cases whose values have another unit."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from jcl.checks.mixed_intensities import on_mixed_modalities, on_mixed_units
from jcl.checks.store_checks import inspect_manifest
from jcl.checks.store_summary import summary
from jcl.config import PrepareConfig
from jcl.data.manifest import CaseRecord
from jcl.data.store import Store
from jcl.stages.prepare import prepare
from support.dicomfiles import write_series


def record(case: str, modality: str = "", outside: tuple[float, float] | tuple[()] = ()) -> CaseRecord:
    return CaseRecord(
        case=case, patient=case, slices=3, shape=(8, 8), spacing=(5.0, 1.0, 1.0), labelled=False, status="ready",
        source={}, digests={}, scale=(1.0,), offset=(0.0,), voxels=(), modality=modality, outside=outside,
    )  # fmt: skip


def test_an_mr_among_ct() -> None:
    cases = [record("a", "CT"), record("b", "CT"), record("c", "MR"), record("d"), record("e", "US")]
    found = on_mixed_modalities(cases)
    assert found is not None
    assert "scans are CT in most cases, but MR in c; US in e: " in found[0]
    assert found[1] == ("c", "e")
    assert on_mixed_modalities([record("a", "CT"), record("b", "CT"), record("c")]) is None
    assert on_mixed_modalities([record("a"), record("b")]) is None
    assert on_mixed_modalities([]) is None


def test_a_ct_without_its_rescaling() -> None:
    cases = [record("a", outside=(0.5, 0.02)), record("b", outside=(0.3, 0.01)), record("c", outside=(0.0, 0.4))]
    found = on_mixed_units(cases)
    assert found is not None
    line = "hardly a value lies below the window in c, where most cases have 30 % below and 2 % above: "
    assert line in found[0]
    assert found[1] == ("c",)


@pytest.mark.parametrize("outside", [[()], [(0.5, 0.0), (0.4, 0.0)], [(0.0, 0.2), (0.0, 0.01)], [(0.0, 0.0)]])
def test_sets_of_one_unit(outside: list[tuple[float, float]]) -> None:
    assert on_mixed_units([record(str(n), outside=each) for n, each in enumerate(outside)]) is None


def said(store: Store, text: str) -> tuple[int, list[tuple[str, ...]]]:
    """How many lines of `prepare` say so, and which cases the findings of `verify` name."""
    lines = [line for line in summary(store) if line.startswith(f"note: {text}")]
    return len(lines), [finding.cases for finding in inspect_manifest(store) if text in finding.text]


def test_prepare_and_verify_name_another_unit(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name, shift in (("a", 0), ("b", 0), ("c", 1024)):
        values = np.random.default_rng(0).normal(-1000 + shift, 99, (5, 24, 24))
        values[:, 6:18, 6:18] += 1040
        image = sitk.GetImageFromArray(values.clip(min=-1024 + shift).astype(np.int16))
        image.SetSpacing((1.0, 1.0, 5.0))
        sitk.WriteImage(image, tmp_path / "images" / f"{name}.nii.gz")
    store = prepare(PrepareConfig(source=tmp_path, out=tmp_path / "store", window=(-160.0, 240.0), workers=1))
    assert said(store, "hardly a value lies below the window in c, ") == (1, [("c",)])


def test_prepare_and_verify_name_another_modality_and_offer_ct_a_window(tmp_path: Path) -> None:
    for name, modality in (("a", "CT"), ("b", "CT"), ("c", "MR")):
        write_series(tmp_path / "scans" / name, series=name, Modality=modality, PatientID=name)
    store = prepare(PrepareConfig(source=tmp_path / "scans", out=tmp_path / "store", workers=1))
    assert [each.modality for each in store.cases] == ["CT", "CT", "MR"]
    assert said(store, "scans are CT in most cases, but MR in c: ") == (1, [("c",)])
    assert not any("--window" in line for line in summary(store))
    (tmp_path / "ct").mkdir()
    for name in ("a", "b"):
        (tmp_path / "scans" / name).rename(tmp_path / "ct" / name)
    store = prepare(PrepareConfig(source=tmp_path / "ct", out=tmp_path / "of-ct", workers=1))
    assert any("--window LOW HIGH clips to Hounsfield units" in line for line in summary(store))
    store = prepare(PrepareConfig(source=tmp_path / "ct", out=tmp_path / "clipped", window=(-500.0, 500.0), workers=1))
    assert not any("--window" in line for line in summary(store))
