"""Volumes resampled through their plane: recorded, verified, segmented and scored on the slices of their source."""

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import jcl
from jcl.backbones.unet3d import UNet3D
from jcl.cli import main as cli
from jcl.config import EvaluateConfig, ExportConfig, FinetuneConfig, PredictConfig, PrepareConfig, SuggestConfig
from jcl.data.block_plan import with_block
from jcl.data.splits import Split, write_split
from jcl.data.store import CASES, Store
from jcl.errors import DataError, UsageError
from jcl.files import read_json
from jcl.metrics import score_case
from jcl.stages.evaluate import evaluate
from jcl.stages.export import export
from jcl.stages.finetune import finetune
from jcl.stages.predict import predict
from jcl.stages.prepare import prepare
from jcl.stages.suggest import suggest
from jcl.training.run_folder import save_model, start_run
from support.scans import write_volumes
from support.shared import made_once
from support.thresholds import STEEP, make_recipe_of

REALDATA = os.environ.get("JCL_REALDATA")
THRESHOLD = 0.505


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """Six slices of 4 mm, pixels of 1 mm."""
    return made_once(tmp_path_factory, "through-scans", lambda out: write_volumes(out))


@pytest.fixture(scope="module")
def plain(scans, tmp_path_factory) -> Path:
    return made_once(tmp_path_factory, "through-plain", lambda out: make_store(scans, out, None))


@pytest.fixture(scope="module")
def fine(scans, tmp_path_factory) -> Path:
    return made_once(tmp_path_factory, "through-fine", lambda out: make_store(scans, out, 2.0))


def make_store(source: Path, out: Path, through: float | None) -> None:
    prepare(PrepareConfig(source=source, out=out, labels="1=ball", workers=1, spacing_through=through))


def test_the_record_says_so_and_the_slices_of_the_source_are_kept_to_be_scored(plain, fine):
    one, other = Store.open(plain), Store.open(fine)
    assert "spacing_through" not in one.preparation
    assert other.preparation == {**one.preparation, "spacing_through": 2.0}
    for number, (before, after) in enumerate(zip(one.cases, other.cases, strict=True)):
        assert (before.taken, before.own) == ((), (6, 4.0))
        assert (after.slices, after.spacing, after.taken, after.own) == (12, (2.0, 1.0, 1.0), (6, 4.0), (6, 4.0))
        assert "taken" not in read_json(plain / CASES / before.case / "case.json")
        for at in range(6):
            assert np.array_equal(other.truth(number, at), one.truth(number, at))
            assert np.array_equal(one.truth(number, at), one.label(number, at)[one.content(number)])
        with pytest.raises(IndexError, match="has 6 slices, none with number 6"):
            other.truth(number, 6)
        assert other.label(number, 11).shape == (32, 32)
        middle = (other.label(number, 4) + other.label(number, 5)).astype(int).sum()
        assert middle == pytest.approx(2 * one.label(number, 2).astype(int).sum(), rel=0.35)


def test_verify_reads_them_too(fine, tmp_path, capsys):
    assert cli.main(["verify", str(fine)]) == 0
    broken = tmp_path / "broken"
    for path in fine.rglob("*"):
        if path.is_file():
            target = broken / path.relative_to(fine)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    file = broken / CASES / "p0" / "labels-taken.slices"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert cli.main(["verify", str(broken)]) == 3
    assert "labels-taken.slices" in capsys.readouterr().out


def test_another_spacing_is_another_store(scans, fine, plain, tmp_path):
    with pytest.raises(UsageError, match=r"spacing_through: 2\.0 there, 1\.0 now"):
        make_store(scans, fine, 1.0)
    with pytest.raises(UsageError, match=r"spacing_through: None there, 2\.0 now"):
        make_store(scans, plain, 2.0)
    with pytest.raises(UsageError, match="spacing_through"):
        make_store(scans, tmp_path / "store", 0.0)


def test_a_spacing_that_makes_too_many_slices_for_the_memory_skips_the_case(scans, tmp_path):
    with pytest.raises(DataError, match="memory"):
        make_store(scans, tmp_path / "store", 1e-9)


def threshold_network() -> UNet3D:
    """Class 1 where the intensity exceeds the threshold: one channel hands the voxel through, all else is 0."""
    network = UNet3D(width=2, strides=((1, 2, 2), (2, 2, 2)))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.zero_()
            if parameter.ndim == 1 and name.endswith("weight"):
                parameter.fill_(1)
        first, last = network.encoder.blocks[0], network.decoder[-1].units
        for units, taken in ((first, 0), (last, 2)):
            units[0].weight[0, taken, 1, 1, 1] = 1
            units[3].weight[0, 0, 1, 1, 1] = 1
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                module.running_var.fill_(1 - module.eps)
        network.head.weight[1, 0] = STEEP
        network.head.bias[1] = -THRESHOLD * STEEP
    return network.eval()


def known_run(run: Path, preparation: dict, **info) -> Path:
    """A run that segments what is above half the intensity."""
    preparation = with_block(preparation, (4, 8, 8))
    network = {"name": "unet3d", "in_channels": 1, "classes": 2, "width": 2, "strides": [[1, 2, 2], [2, 2, 2]]}
    about = {"kind": "finetune", "settings": {"block": [4, 8, 8]}, "backbone": network, "versions": {}}
    start_run(run, {**about, "store": "nowhere", "store_digest": "", "recipe": preparation, **info})
    save_model(run, threshold_network())
    return run


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> Path:
    preparation = {**make_recipe_of({205: "Myo"}), "spacing_through": 1.5, "clip": [0.0, 100.0]}
    run = known_run(tmp_path_factory.mktemp("known") / "run", preparation, class_names=["Myo"])
    write_split(run / "split.json", Split(("a",), (), ("b",)))
    return run


def turned(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


SOURCES = {
    "thick slices": ((9, 20, 22), (1.0, 1.0, 6.0), None),
    "thin slices": ((30, 20, 22), (1.0, 1.0, 0.5), None),
    "oblique": ((9, 20, 22), (0.8, 0.8, 4.0), turned(20)),
    "sagittal": ((20, 22, 9), (5.0, 1.0, 1.0), [[0, 0, 1], [1, 0, 0], [0, 1, 0]]),
    "one slice": ((1, 20, 22), (1.0, 1.0, 8.0), None),
    "as asked": ((9, 20, 22), (1.0, 1.0, 1.5), None),
}


def smooth(path: Path, kind: str) -> Path:
    """A hill in the middle of a volume."""
    shape, spacing, direction = SOURCES[kind]
    places = np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape), indexing="ij")
    image = sitk.GetImageFromArray((1000 * np.exp(-sum(p**2 for p in places))).astype(np.float32))
    image.SetSpacing(spacing)
    image.SetOrigin((-30.0, 12.5, 7.0))
    if direction is not None:
        image.SetDirection(np.asarray(direction, float).ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("kind", SOURCES)
def test_results_are_on_the_grid_of_the_source(known, tmp_path, kind):
    source = smooth(tmp_path / "scan.nii.gz", kind)
    (path,) = predict(PredictConfig(run=known, source=source, out=tmp_path / "out", precision="float32"))
    written, image = sitk.ReadImage(str(path)), sitk.ReadImage(str(source))
    assert written.GetSize() == image.GetSize()
    for get in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(written, get)() == pytest.approx(getattr(image, get)(), abs=1e-5), get
    values = sitk.GetArrayFromImage(image)
    scaled = (values - values.min()) / (values.max() - values.min())
    found = sitk.GetArrayFromImage(written)
    assert set(np.unique(found)) == {0, 205}
    near = np.abs(scaled - THRESHOLD) < 0.1  # there interpolation decides
    assert np.array_equal(found[~near] > 0, scaled[~near] > THRESHOLD)
    assert ((found > 0) == (scaled > THRESHOLD)).mean() > 0.97
    labels = jcl.load(known).segment(source, precision="float32")
    assert np.array_equal(labels, found)


def test_runs_of_both_kinds_are_averaged_on_the_slices_of_the_source(known, tmp_path):
    other = known_run(tmp_path / "other", {**make_recipe_of({205: "Myo"}), "clip": [0.0, 100.0]}, class_names=["Myo"])
    source = smooth(tmp_path / "scan.nii.gz", "thick slices")
    (path,) = predict(PredictConfig(run=(known, other), source=source, out=tmp_path / "out", precision="float32"))
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(source)))
    scaled = (values - values.min()) / (values.max() - values.min())
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert ((found > 0) == (scaled > THRESHOLD)).mean() > 0.97


def test_the_slices_of_the_source_are_scored(scans, fine, tmp_path):
    """By what `predict` makes of the scans, and their labels."""
    store = Store.open(fine)
    info = {"store": str(fine), "store_digest": store.digest, "class_names": ["ball"]}
    run = known_run(tmp_path / "run", store.preparation, **info)
    write_split(run / "split.json", Split(("p0",), (), ("p4", "p5")))
    results = evaluate(EvaluateConfig(run=run, out=tmp_path / "results.json", precision="float32"))
    predict(PredictConfig(run=run, source=scans / "images", out=tmp_path / "out", precision="float32"))
    for entry in results["cases"]:
        found, truth = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{entry['case']}.nii.gz")))
            for folder in (tmp_path / "out", scans / "labels")
        )
        wanted = score_case(found, truth, classes=("ball",), spacing=(4.0, 1.0, 1.0))
        assert entry["classes"]["ball"]["dice"] == pytest.approx(wanted["ball"]["dice"], abs=0.02)
        assert entry["classes"]["ball"]["hd95"] == pytest.approx(wanted["ball"]["hd95"], abs=1.0)
        assert wanted["ball"]["dice"] > 0.5
    each = evaluate(EvaluateConfig(run=run, out=tmp_path / "each.json", precision="float32", unit="slice"))
    assert len(each["cases"]) == 2 * 6


def test_both_kinds_of_network_train_on_such_a_store(fine, tmp_path):
    usual = {"store": fine, "init": "none", "width": 2, "folds": 3, "steps": 2, "batch_size": 2}
    flat = finetune(FinetuneConfig(**usual, out=tmp_path / "flat"))
    deep = finetune(FinetuneConfig(**usual, out=tmp_path / "deep", backbone="unet3d", block=(8, 16, 16)))
    for run in (flat, deep):
        assert read_json(run / "run.json")["recipe"]["spacing_through"] == 2.0
        assert len(evaluate(EvaluateConfig(run=run, out=tmp_path / "scores.json"))["cases"]) == 2
    with pytest.raises(UsageError, match="resampled through their plane, which onnx has no place for"):
        export(ExportConfig(run=flat, to="onnx", out=tmp_path / "flat.onnx"))
    with pytest.raises(UsageError, match="resampled through the plane, so that its slices are not those to label"):
        suggest(SuggestConfig(store=fine, run=(flat,)))


@pytest.mark.parametrize("value", [0.0, -1.0, "2", [2.0]])
def test_a_run_whose_file_has_no_such_spacing(known, tmp_path, value):
    info = read_json(known / "run.json")
    start_run(tmp_path / "run", {**info, "recipe": {**info["recipe"], "spacing_through": value}})
    save_model(tmp_path / "run", threshold_network())
    write_split(tmp_path / "run" / "split.json", Split(("a",), (), ("b",)))
    with pytest.raises(DataError, match=r"recipe.*spacing_through"):
        jcl.load(tmp_path / "run")


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "through", "slices"), [("mscmr", 2.0, None), ("hippocampus", 2.0, None)])
def test_real_volumes(tmp_path, name, through, slices):
    """Thick slices made finer, thin ones coarser; the labels that are scored are those of the files."""
    assert REALDATA
    source = Path(REALDATA, name)
    case = sorted(path.name for path in (source / "labelsTr").glob("*.nii.gz"))[0]
    for folder in ("images", "labels"):
        (tmp_path / "scans" / folder).mkdir(parents=True)
        (tmp_path / "scans" / folder / case).symlink_to(source / f"{folder}Tr" / case)
    common = {"source": tmp_path / "scans", "workers": 1}
    prepare(PrepareConfig(**common, out=tmp_path / "plain"))
    prepare(PrepareConfig(**common, out=tmp_path / "through", spacing_through=through))
    one, other = Store.open(tmp_path / "plain"), Store.open(tmp_path / "through")
    before, after = one.cases[0], other.cases[0]
    assert after.own == (before.slices, before.spacing[0])
    assert after.slices == round(before.slices * before.spacing[0] / through)
    assert after.slices * after.spacing[0] == pytest.approx(before.slices * before.spacing[0])
    for number in range(before.slices):
        assert np.array_equal(other.truth(0, number), one.truth(0, number))
    volumes = [np.array(record.voxels) * np.prod(record.spacing) for record in (before, after)]
    assert volumes[1] == pytest.approx(volumes[0], rel=0.1)
