"""Verifying real sets: what they hold, that no two patients look alike, and that one patient saved anew does."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import zoom

from jcl.config import PrepareConfig, VerifyConfig
from jcl.data.duplicates import ALIKE, THUMBNAIL, Thumbnail, similar_pairs
from jcl.data.inspection import StoreCheck
from jcl.report.verification import conclude
from jcl.stages.prepare import prepare
from jcl.stages.verify import verify

pytestmark = pytest.mark.realdata

SETS = ["chaos", "hippocampus", "la2018", "mscmr"]


@pytest.fixture(scope="session")
def checks(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, StoreCheck]:
    base, found = tmp_path_factory.mktemp("verify"), {}
    for name in SETS:
        prepare(PrepareConfig(source=realdata / name, out=base / name))
        check = verify(VerifyConfig(path=base / name, out=base / f"{name}-check", source=realdata / name))
        assert isinstance(check, StoreCheck)
        found[name] = check
    return found


@pytest.mark.parametrize("name", SETS)
def test_real_sets_are_whole(checks: dict[str, StoreCheck], name: str, capsys: pytest.CaptureFixture) -> None:
    assert checks[name].findings == []
    out = checks[name].store.path.with_name(f"{name}-check")
    conclude(checks[name], out)
    assert "nothing to remark" in capsys.readouterr().out
    assert len(list(out.glob("contact_sheet*.png"))) == -(-len(checks[name].census) // 60)


@pytest.mark.parametrize("name", SETS)
def test_census_is_that_of_the_label_files(checks: dict[str, StoreCheck], realdata: Path, name: str) -> None:
    """Voxels and ml by another way: the label files themselves, on their own grid, which these sets keep."""
    check = checks[name]
    for each in check.census[::5]:
        label = sitk.ReadImage(str(realdata / name / "labelsTr" / f"{each.record.case}.nii.gz"))
        array, voxel = sitk.GetArrayFromImage(label), float(np.prod(label.GetSpacing()))
        values = check.store.recipe["class_values"]
        assert each.voxels == tuple(int((array == value).sum()) for value in values)
        assert each.millilitres == pytest.approx([(array == value).sum() * voxel / 1000 for value in values], rel=1e-4)


@pytest.mark.parametrize("name", SETS)
def test_patients_do_not_look_alike(checks: dict[str, StoreCheck], name: str) -> None:
    """With the volumes of one another and in any flip: the documented margin."""
    made = np.stack([each.thumbnail for each in checks[name].census])
    assert made.shape[1:] == THUMBNAIL
    highest = max((r for *_, r in similar_pairs(made, [str(n) for n in range(len(made))], least=0.5)), default=0.0)
    print(f"{name}: {highest:.3f}")
    assert highest < 0.89


@pytest.mark.parametrize("name", SETS)
def test_a_patient_saved_anew_looks_alike(checks: dict[str, StoreCheck], name: str) -> None:
    store = checks[name].store
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
