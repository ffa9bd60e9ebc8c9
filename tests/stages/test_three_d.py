"""Three dimensions from fine-tuning to results: what is recorded, resumed, segmented, scored and refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import jcl
from jcl.backbones.unet3d import UNet3D
from jcl.cli import main as cli
from jcl.config import EvaluateConfig, ExportConfig, FinetuneConfig, PredictConfig, SuggestConfig
from jcl.data.block_plan import with_block
from jcl.data.splits import Split, write_split
from jcl.data.store import Store
from jcl.errors import DataError, UsageError
from jcl.files import read_json, write_json
from jcl.stages.evaluate import evaluate
from jcl.stages.export import export
from jcl.stages.finetune import finetune
from jcl.stages.predict import predict
from jcl.stages.suggest import suggest
from jcl.training.run_folder import load_network, save_model, start_run
from support.interrupted import same_weights, stopped
from support.shared import made_once
from support.thresholds import STEEP, make_recipe_of

BLOCK = (4, 16, 16)
STRIDES = [[1, 2, 2], [1, 2, 2]]
"""Slices of 4 mm, four of them: the plane catches up, and then has no side left to halve."""


def finetuning(store: Path, out: Path, **settings) -> FinetuneConfig:
    usual = {"init": "none", "backbone": "unet3d", "block": BLOCK, "width": 2, "folds": 3, "steps": 4, "batch_size": 2}
    return FinetuneConfig(**{"store": store, "out": out, **usual, **settings})


@pytest.fixture(scope="module")
def fine(store_path, tmp_path_factory) -> Path:
    return made_once(tmp_path_factory, "fine-3d", lambda out: finetune(finetuning(store_path, out)))


def test_a_fine_tuning_records_block_and_strides(store_path, fine):
    info = read_json(fine / "run.json")
    assert info["settings"]["block"] == list(BLOCK)
    assert info["settings"]["foreground"] == pytest.approx(1 / 3)
    assert info["recipe"] == {**Store.open(store_path).preparation, "block": list(BLOCK)}
    network = {"name": "unet3d", "in_channels": 1, "classes": 2, "width": 2}
    assert info["backbone"] == {**network, "strides": STRIDES}
    assert isinstance(load_network(fine)[0], UNet3D)


def test_a_fine_tuning_goes_on_bit_for_bit(store_path, fine, tmp_path, monkeypatch):
    stopped(monkeypatch, lambda: finetune(finetuning(store_path, tmp_path / "run")), 2)
    finetune(finetuning(store_path, tmp_path / "run", resume=True))
    assert same_weights(tmp_path / "run", fine)


def test_the_paper_s_recipe_too(store_path, tmp_path):
    info = read_json(finetune(finetuning(store_path, tmp_path / "run", recipe="paper", foreground=0.0)) / "run.json")
    assert (info["settings"]["loss"], info["settings"]["foreground"]) == ("cross_entropy", 0.0)


@pytest.mark.slow
def test_it_learns_to_find_the_ball(store_path, tmp_path):
    run = finetune(finetuning(store_path, tmp_path / "run", width=4, steps=60, learning_rate=2e-2))
    results = evaluate(EvaluateConfig(run=run, out=tmp_path / "results.json"))
    assert results["mean"]["dice"] > 0.5


def test_scores_are_of_whole_cases_however_many_windows_are_taken_at_a_time(fine, tmp_path):
    one, other = (
        evaluate(EvaluateConfig(run=fine, out=tmp_path / f"{size}.json", batch_size=size, precision="float32"))
        for size in (1, 16)
    )
    assert one["cases"] == other["cases"]
    assert len(one["cases"]) == 2


# prediction, by a network that is known

THRESHOLD = 0.505


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


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> Path:
    """A run that segments as 205 what is above half the intensity."""
    run = tmp_path_factory.mktemp("known") / "run"
    preparation = with_block(make_recipe_of({205: "Myo"}), (4, 8, 8))
    network = {"name": "unet3d", "in_channels": 1, "classes": 2, "width": 2, "strides": [[1, 2, 2], [2, 2, 2]]}
    info = {"kind": "finetune", "settings": {"block": [4, 8, 8]}, "backbone": network, "class_names": ["Myo"]}
    start_run(run, {**info, "store": "nowhere", "store_digest": "", "recipe": preparation})
    save_model(run, threshold_network())
    write_split(run / "split.json", Split(("a",), (), ("b",)))
    return run


def save(path: Path, shape: tuple[int, int, int], spacing=(1.0, 1.0, 1.0), direction=None) -> Path:
    values = np.random.default_rng(0).integers(0, 101, size=shape).astype(np.int16)
    values.flat[0], values.flat[1] = 0, 100
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(spacing)
    image.SetOrigin((-30.0, 12.5, 7.0))
    if direction is not None:
        image.SetDirection(np.asarray(direction, float).ravel().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def turned(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


SOURCES = {
    "larger than a block": ((11, 20, 17), {}),
    "smaller than a block": ((2, 5, 6), {}),
    "of one slice": ((1, 30, 9), {}),
    "anisotropic": ((5, 20, 20), {"spacing": (0.7, 0.7, 6.0)}),
    "oblique": ((7, 12, 14), {"spacing": (1.0, 1.0, 3.0), "direction": turned(20)}),
    "sagittal": ((12, 13, 6), {"spacing": (3.0, 1.0, 1.0), "direction": [[0, 0, 1], [1, 0, 0], [0, 1, 0]]}),
}


def check(path: Path, source: Path) -> None:
    """The written file has the source's geometry, and each voxel the class of its own intensity."""
    written, image = sitk.ReadImage(str(path)), sitk.ReadImage(str(source))
    assert written.GetSize() == image.GetSize()
    for get in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(written, get)() == pytest.approx(getattr(image, get)(), abs=1e-5), get
    expected = np.where(sitk.GetArrayFromImage(image) > 100 * THRESHOLD, 205, 0)
    assert np.array_equal(sitk.GetArrayFromImage(written), expected)


@pytest.mark.parametrize("kind", SOURCES)
def test_every_voxel_gets_its_class_on_the_grid_of_its_source(known, tmp_path, kind):
    shape, placed = SOURCES[kind]
    source = save(tmp_path / "scans" / "scan.nii.gz", shape, **placed)
    (path,) = predict(PredictConfig(run=known, source=source, out=tmp_path / "out", precision="float32"))
    check(path, source)


def test_with_all_that_can_be_written_beside_it(known, tmp_path):
    source = save(tmp_path / "scans" / "scan.nii.gz", (6, 12, 10))
    asked = {"volumes": True, "doubt": True, "probabilities": True, "overview": True, "precision": "float32"}
    (path,) = predict(PredictConfig(run=known, source=source, out=tmp_path / "out", **asked))
    check(path, source)
    assert sitk.ReadImage(str(tmp_path / "out" / "probabilities" / "scan.nii.gz")).GetSize() == (10, 12, 6, 2)


def test_from_python(known, tmp_path):
    source = save(tmp_path / "scan.nii.gz", (6, 12, 10))
    labels = jcl.load(known).segment(source, out=tmp_path / "out.nii.gz", precision="float32")
    assert labels.shape == (6, 12, 10)
    check(tmp_path / "out.nii.gz", source)


@pytest.mark.parametrize("block", [None, [4, 8], [0, 8, 8], [4, 8, "8"], [100000, 100000, 100000]])
def test_a_run_whose_file_has_no_block_that_its_network_sees(known, tmp_path, block):
    info = read_json(known / "run.json")
    recipe = {**info["recipe"], "block": block}
    if block is None:
        del recipe["block"]
    start_run(tmp_path / "run", {**info, "recipe": recipe})
    save_model(tmp_path / "run", threshold_network())
    with pytest.raises(DataError, match=r"run.json: recipe.*block"):
        load_network(tmp_path / "run")


# what is not offered, in one line and with exit code 2

TRAIN = ["--steps", "1", "--width", "2", "--batch-size", "2"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["finetune", "--init", "none", "--backbone", "unet3d"], "unet3d sees blocks; say which with --block"),
        (
            ["finetune", "--init", "none", "--block", "4", "16", "16"],
            r"--block is for .*unet3d\); unet sees",
        ),
        (["finetune", "--init", "none", "--backbone", "unet3d", "--block", "4", "7", "7"], "block is 4 7 7; a side of"),
    ],
)
def test_a_block_goes_with_a_network_that_sees_it(store_path, tmp_path, capsys, command, said):
    refused(capsys, [command[0], str(store_path), *command[1:], "--out", str(tmp_path / "run"), *TRAIN], said)
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    "more",
    [["--context", "1"], ["--label-noise", "0.2"]],
)
def test_what_fine_tuning_does_not_offer(store_path, tmp_path, capsys, more):
    command = ["finetune", str(store_path), "--init", "none", "--backbone", "unet3d", "--block", "4", "16", "16"]
    said = f"{more[0]} is not offered in three dimensions yet"
    refused(capsys, [*command, *more, "--out", str(tmp_path / "run"), *TRAIN], said)


def test_turned_and_mirrored_looks_are_other_scores_of_the_same_scan(store_path, fine, tmp_path):
    """In evaluation as in prediction; what was looked at is recorded."""
    more = {"plain": {}, "tta": {"tta": True}, "mirror": {"mirror": True}}
    sure = set()
    for name, flags in more.items():
        found = evaluate(EvaluateConfig(run=fine, out=tmp_path / f"{name}.json", precision="float32", **flags))
        sure.add(json.dumps(found["calibration"]))
        assert found.get("second_look", {}) == flags
    scan = next((store_path.parent / "scans" / "images").iterdir())
    sizes = set()
    for name, flags in more.items():
        out = tmp_path / name
        (path,) = predict(PredictConfig(run=fine, source=scan, out=out, precision="float32", **flags))
        sizes.add(sitk.ReadImage(str(path)).GetSize())
    assert len(sizes) == 1
    assert len(sure) == 3


def test_nnunet_takes_networks_of_its_own_only(known, tmp_path):
    with pytest.raises(UsageError, match=r"its backbone is unet3d.*plain_conv_unet3d.*or residual_encoder_unet3d"):
        export(ExportConfig(run=known, to="nnunet", out=tmp_path / "out"))


def test_suggestions_are_not_offered(store_path, known):
    with pytest.raises(UsageError, match="suggesting is not offered in three dimensions yet"):
        suggest(SuggestConfig(store=store_path, run=(known,)))


def refused(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert cli.main(words) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("jcl: error: ")]
    assert len(lines) == 1
    assert re.search(said, lines[0]), lines[0]


def test_a_run_of_slices_knows_nothing_of_it(store_path, tmp_path):
    run = finetune(FinetuneConfig(store=store_path, out=tmp_path / "run", init="none", width=2, steps=1, folds=3))
    info = read_json(run / "run.json")
    assert info["settings"]["block"] is None
    assert "block" not in info["recipe"]
    assert "strides" not in info["backbone"]
    before = read_json(run / "run.json")
    del before["settings"]["block"]  # as a version of before wrote it
    write_json(run / "run.json", before, seal=True)
    again = FinetuneConfig(store=store_path, out=run, init="none", width=2, steps=1, folds=3, resume=True)
    assert finetune(again) == run
