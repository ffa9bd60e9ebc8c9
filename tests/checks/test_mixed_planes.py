"""Cases of a store whose slices lie in another plane."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from jcl.checks.mixed_planes import on_mixed_planes
from jcl.checks.store_checks import inspect_manifest
from jcl.checks.store_summary import summary
from jcl.config import PrepareConfig
from jcl.data.manifest import CaseRecord
from jcl.stages.prepare import prepare

AXIAL, CORONAL, SAGITTAL = (0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0)


def records(**directions: tuple[float, ...]) -> list[CaseRecord]:
    return [
        CaseRecord(
            case=case, patient=case, slices=3, shape=(8, 8), spacing=(5.0, 1.0, 1.0), labelled=False, status="ready",
            source={}, digests={}, scale=(1.0,), offset=(0.0,), voxels=(), direction=direction,  # type: ignore[arg-type]
        )
        for case, direction in directions.items()
    ]  # fmt: skip


def test_a_reformat_among_axial_scans() -> None:
    found = on_mixed_planes(records(a=AXIAL, b=AXIAL, c=CORONAL, d=(0.0, 0.0, -1.0), e=SAGITTAL))
    assert found is not None
    line, cases = found
    assert "slices are axial in most cases, but coronal in c; sagittal in e: " in line
    assert cases == ("c", "e")


@pytest.mark.parametrize(
    "directions",
    [
        {},
        {"a": ()},
        {"a": (), "b": CORONAL},
        {"a": AXIAL, "b": AXIAL},
        {"a": AXIAL, "b": (0.0, 0.0, -1.0)},
        {"a": AXIAL, "b": (0.0, 0.5, 0.866)},  # a tilted gantry
    ],
)
def test_sets_of_one_plane(directions: dict[str, tuple[float, ...]]) -> None:
    assert on_mixed_planes(records(**directions)) is None


def test_short_axes_of_many_hearts_are_one_plane() -> None:
    """They differ by some 10 degrees (standard deviation about each axis), as those of real sets do."""
    random = np.random.default_rng(0)
    lines = np.array([0.6, -0.6, 0.53]) + random.normal(0, np.sin(np.radians(10)), (50, 3))
    lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    assert on_mixed_planes(records(**{f"p{n}": tuple(line.round(3)) for n, line in enumerate(lines)})) is None
    found = on_mixed_planes(records(**{f"p{n}": tuple(line.round(3)) for n, line in enumerate(lines)}, axial=AXIAL))
    assert found is not None
    assert found[0].startswith("slices are oblique in most cases, but axial in axial: ")


def test_prepare_and_verify_name_them(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name, direction in (("a", np.eye(3)), ("b", np.eye(3)), ("c", np.eye(3)[:, [0, 2, 1]] * (1, -1, 1))):
        image = sitk.GetImageFromArray(np.random.default_rng(0).normal(100, 20, (5, 24, 24)).astype(np.float32))
        image.SetSpacing((1.0, 1.0, 5.0))
        image.SetDirection(direction.ravel().tolist())
        sitk.WriteImage(image, tmp_path / "images" / f"{name}.nii.gz")
    store = prepare(PrepareConfig(source=tmp_path, out=tmp_path / "store", workers=1))
    text = "slices are axial in most cases, but coronal in c: "
    assert [line for line in summary(store) if line.startswith(f"note: {text}")]
    assert [finding.cases for finding in inspect_manifest(store) if text in finding.text] == [("c",)]
