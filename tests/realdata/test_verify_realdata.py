"""Verifying real sets: what they hold, that no two patients look alike, and that one patient saved anew does."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import zoom

from jcl.checks.duplicates import ALIKE, THUMBNAIL, Thumbnail, similar_pairs
from jcl.checks.mixed_planes import on_mixed_planes
from jcl.checks.store_checks import StoreCheck
from jcl.cli.verification import conclude
from jcl.config import VerifyConfig
from jcl.data.store import Store
from jcl.stages.verify import verify

pytestmark = pytest.mark.realdata

SETS = ["chaos", "hippocampus", "la2018", "mscmr"]

Checks = Callable[[str], StoreCheck]


@pytest.fixture(scope="session")
def check_of(store_of: Callable[[str], Store], realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Checks:
    """What verifying says of a set, by its name."""
    base = tmp_path_factory.mktemp("verify")

    @cache
    def verified(name: str) -> StoreCheck:
        check = verify(VerifyConfig(path=store_of(name).path, out=base / name, source=realdata / name))
        assert isinstance(check, StoreCheck)
        return check

    return verified


@pytest.mark.parametrize("name", SETS)
def test_real_sets_are_whole(check_of: Checks, name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert check_of(name).findings == []
    conclude(check_of(name), tmp_path)
    assert "nothing to remark" in capsys.readouterr().out
    assert len(list(tmp_path.glob("contact_sheet*.png"))) == -(-len(check_of(name).census) // 60)


def test_an_axial_scan_among_short_axes_is_found(store_of: Callable[[str], Store]) -> None:
    """Short axes of 45 hearts differ from each other, and are one plane all the same (see the test above)."""
    hearts, atrium = store_of("mscmr").cases, store_of("la2018").cases[0]
    found = on_mixed_planes([*hearts, atrium])
    assert found is not None
    assert found[1] == (atrium.case,)
    assert found[0].startswith(f"slices are oblique in most cases, but axial in {atrium.case}: ")


@pytest.mark.parametrize("name", SETS)
def test_census_is_that_of_the_label_files(check_of: Checks, realdata: Path, name: str) -> None:
    """Voxels and ml by another way: the label files themselves, on their own grid, which these sets keep."""
    check = check_of(name)
    for each in check.census[::5]:
        label = sitk.ReadImage(str(realdata / name / "labelsTr" / f"{each.record.case}.nii.gz"))
        array, voxel = sitk.GetArrayFromImage(label), float(np.prod(label.GetSpacing()))
        values = check.store.preparation["class_values"]
        assert each.voxels == tuple(int((array == value).sum()) for value in values)
        assert each.millilitres == pytest.approx([(array == value).sum() * voxel / 1000 for value in values], rel=1e-4)


@pytest.mark.parametrize("name", SETS)
def test_patients_do_not_look_alike(check_of: Checks, name: str) -> None:
    """With the volumes of one another and in any flip: the documented margin."""
    made = np.stack([each.thumbnail for each in check_of(name).census])
    assert made.shape[1:] == THUMBNAIL
    highest = max((r for *_, r in similar_pairs(made, [str(n) for n in range(len(made))], least=0.5)), default=0.0)
    print(f"{name}: {highest:.3f}")
    assert highest < 0.89


@pytest.mark.parametrize("name", SETS)
def test_a_patient_saved_anew_looks_alike(check_of: Checks, name: str) -> None:
    store = check_of(name).store
    lowest: dict[str, float] = {}
    for case in range(0, len(store.cases), max(1, len(store.cases) // 6)):
        volume = np.stack([store.image(case, n)[0][store.content(case)] for n in range(store.cases[case].slices)])
        again = {
            "8 bits": np.rint(volume * 255) / 255,
            "gamma 1.1": volume**1.1,
            "0.7 of the resolution": zoom(volume, (1, 0.7, 0.7), order=1),
            "noise": volume + np.random.default_rng(0).normal(0, 0.05, volume.shape),
        }
        for way, other in again.items():
            r = float((make_thumbnail(volume) * make_thumbnail(other)).sum())
            lowest[way] = min(lowest.get(way, 1.0), r)
    print(name, {way: round(r, 4) for way, r in lowest.items()})
    assert min(lowest.values()) > 0.996 > ALIKE


def make_thumbnail(volume: np.ndarray) -> np.ndarray:
    made = Thumbnail(len(volume), volume.shape[1:])
    for number, pixels in enumerate(volume.astype(np.float32)):
        made.add(number, pixels)
    found = made.normalised()
    assert found is not None
    return found
