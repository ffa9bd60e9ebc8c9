"""The spacings of the scans that a network is trained on."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from jcl.config import PrepareConfig
from jcl.data.store import Store
from jcl.stages.prepare import prepare
from jcl.training.seen_spacing import seen_spacing

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
    assert seen_spacing(Store.open(tmp_path / "store"), {"a", "b", "bare"}) == {"seen_mm": seen}
