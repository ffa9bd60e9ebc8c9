"""Every data set of the paper, in the layout it is distributed in, from its files to a score."""

import json
from pathlib import Path

import numpy as np
import pytest

import jcl
from jcl.config import EvaluateConfig, ExportConfig, FinetuneConfig, PredictConfig, PrepareConfig, PretrainConfig
from jcl.data.alike import difference
from jcl.data.datasets import load_spec, spec_names
from jcl.data.resampling import prepare_volume
from jcl.data.store import Store
from jcl.data.volumes import read_scan
from jcl.errors import UsageError
from jcl.stages.evaluate import evaluate
from jcl.stages.export import export
from jcl.stages.finetune import finetune
from jcl.stages.predict import predict
from jcl.stages.prepare import prepare
from jcl.stages.pretrain import pretrain
from support.sets import WRITERS, slices_of

PATIENTS = {
    "chd": ["ct_1001", "ct_1002", "ct_1128"],
    "mmwhs": [f"{kind}_train_{k}" for kind in ("ct", "mr") for k in (1001, 1002, 1020)],
    "mmwhs_ct": [f"ct_train_{k}" for k in (1001, 1002, 1020)],
    "mmwhs_mr": [f"mr_train_{k}" for k in (1001, 1002, 1020)],
    "hvsmr": ["pat0", "pat1", "pat9"],
    "acdc": ["patient001", "patient002", "patient100"],
    "brats2018": ["Brats18_A_1", "Brats18_B_1", "Brats18_C_1"],
    "kits2019": ["case_00000", "case_00001", "case_00209"],
    "chaos": ["1", "2", "39"],
    "msd": ["liver_001", "liver_002", "liver_003"],
    "msd_heart": ["la_001", "la_002", "la_003"],
    "msd_hippocampus": ["hippocampus_001", "hippocampus_002", "hippocampus_003"],
    "msd_spleen": ["spleen_001", "spleen_002", "spleen_003"],
    "isic2018": ["ISIC_0000000", "ISIC_0000001", "ISIC_0000002"],
}
VOLUMES = [name for name in WRITERS if name != "isic2018"]


def make(name: str, folder: Path) -> Store:
    """The store of a data set, padded to 64 pixels so that networks run through it at once."""
    WRITERS[name](folder / "source")
    config = PrepareConfig(source=folder / "source", dataset=name, size=64, out=folder / "store", workers=1)
    return prepare(config)


def train_and_score(store: Store, folder: Path, init: Path | None = None) -> dict[str, object]:
    """One epoch of pre-training (unless there is one already), one of fine-tuning, and the scores."""
    if init is None:
        init = folder / "pre"
        pretrain(PretrainConfig(stores=(store.path,), out=init, width=2, epochs=1, batch_size=4, fold=0, folds=3))
    finetune(FinetuneConfig(store=store.path, init=str(init), out=folder / "fine", epochs=1, folds=3))
    evaluate(EvaluateConfig(run=folder / "fine", out=folder / "results.json"))
    return json.loads((folder / "results.json").read_text())


def test_every_data_set_is_laid_out() -> None:
    assert set(WRITERS) == set(PATIENTS) == set(spec_names()) - {"auto", "folder"}


@pytest.mark.parametrize("name", VOLUMES)
def test_labels_are_right_in_voxels_counted_by_hand(tmp_path: Path, name: str) -> None:
    store = make(name, tmp_path)
    assert not store.skipped
    assert sorted({record.patient for record in store.cases}) == PATIENTS[name]
    # a box of 8 x 8 pixels is 4 x 4 where the spacing doubles, and stays where it is kept
    spacing = load_spec(name).spacing
    area = 64 if spacing is None else 16
    wanted = {label: area * slices_of(number) for number, label in enumerate(store.class_names, start=1)}
    for case, record in enumerate(store.cases):
        assert store.counted(case) == wanted, record.case
        assert record.slices == 6
        assert record.shape == ((32, 32) if spacing is None else (16, 16))
        assert record.spacing[1:] == pytest.approx((1.0, 1.0) if spacing is None else (spacing, spacing))


@pytest.mark.parametrize("name", VOLUMES)
def test_labels_lie_on_what_they_name(tmp_path: Path, name: str) -> None:
    store = make(name, tmp_path)
    structures = len(store.class_names)
    for case, record in enumerate(store.cases):
        image = np.stack([store.image(case, number) for number in range(record.slices)])
        label = np.stack([store.label(case, number) for number in range(record.slices)])
        for channel in image.swapaxes(0, 1):
            # resampled, a corner of a box keeps (7/8)^2 of its value, and a pixel between two gets 1/8 of each
            assert channel[label == 0].max() <= 0.25
            for number in range(1, structures + 1):
                value = number / structures
                assert 0.76 * value <= channel[label == number].min()
                assert channel[label == number].max() == pytest.approx(value, abs=0.01)


def test_photographs_are_scaled_to_one_size_in_colour(tmp_path: Path) -> None:
    store = make("isic2018", tmp_path)
    assert [record.patient for record in store.cases] == PATIENTS["isic2018"]
    assert (store.channels, store.size, store.class_names) == (3, (64, 64), ("lesion",))
    assert [record.shape for record in store.cases] == [(64, 48), (48, 64), (64, 64)]
    for case in range(3):
        assert store.counted(case) == {"lesion": 20 * 20}
        image, label = store.image(case, 0), store.label(case, 0)
        red, green, blue = (np.median(channel[label == 1]) for channel in image)
        assert (red, green, blue) == pytest.approx((1, 1, 0), abs=0.15)


def test_photographs_in_grey_from_files_to_scores_and_results(tmp_path: Path) -> None:
    """One value a pixel in the store, of new pictures as well; what was prepared in colour is another set."""
    WRITERS["isic2018"](tmp_path / "source")
    plain = {"source": tmp_path / "source", "dataset": "isic2018", "size": 64, "workers": 1}
    store = prepare(PrepareConfig(**plain, out=tmp_path / "store", grey=True))
    assert (store.channels, store.preparation["grey"]) == (1, True)
    for case in range(3):
        image, label = store.image(case, 0), store.label(case, 0)
        assert np.median(image[0][label == 1]) == pytest.approx(1, abs=0.15)  # of yellow, the lightest there
    assert train_and_score(store, tmp_path)["cases"]
    run = jcl.load(tmp_path / "fine")
    pictures = sorted((tmp_path / "source").rglob("*.jpg"))
    for case, picture in enumerate(pictures):
        read = read_scan([picture], run.preparation)
        kept = store.image(case, 0)[0][store.content(case)]
        np.testing.assert_allclose(prepare_volume(read, run.preparation)[0][0, 0], kept, atol=1e-3)
    predict(PredictConfig(run=(tmp_path / "fine",), source=pictures[0], out=tmp_path / "results"))
    assert len(list((tmp_path / "results").iterdir())) == 1
    coloured = prepare(PrepareConfig(**plain, out=tmp_path / "coloured"))
    assert difference(store.preparation, coloured.preparation) == "grey True, not False"
    with pytest.raises(UsageError, match="pictures in colour as grey, which a MONAI bundle has no place for"):
        export(ExportConfig(run=tmp_path / "fine", to="monai", out=tmp_path / "bundle"))
    with pytest.raises(UsageError, match="grey: that is one channel, and channels = 3"):
        prepare(PrepareConfig(**plain, out=tmp_path / "both", grey=True, channels=3))


@pytest.mark.parametrize("name", list(WRITERS))
def test_from_files_to_a_score(tmp_path: Path, name: str) -> None:
    store = make(name, tmp_path)
    results = train_and_score(store, tmp_path)
    tested = [case["patient"] for case in results["cases"]]
    assert tested
    assert set(tested) < set(PATIENTS[name])
    assert set(results["cases"][0]["classes"]) == set(store.class_names)


@pytest.mark.parametrize("target", ["brats2018", "isic2018"])
def test_transfer_to_a_set_with_other_channels(tmp_path: Path, target: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = make("kits2019", tmp_path / "kits2019")
    pretrain(PretrainConfig(stores=(source.path,), out=tmp_path / "pre", width=2, epochs=1, batch_size=4))
    capsys.readouterr()
    results = train_and_score(make(target, tmp_path / target), tmp_path, init=tmp_path / "pre")
    assert results["cases"]
    assert "1 adapted to the number of channels" in capsys.readouterr().err
