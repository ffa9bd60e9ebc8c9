"""Stores, runs and exports of version 0.1.0 stay usable: what it left behind, see tests/oracles/make_runs_0_1.py."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import jcl
from jcl.config import EvaluateConfig, FinetuneConfig, PredictConfig, PretrainConfig
from jcl.errors import UsageError
from jcl.files import read_json
from jcl.stages.evaluate import evaluate
from jcl.stages.finetune import finetune
from jcl.stages.predict import predict
from jcl.stages.pretrain import pretrain
from jcl.training.run_folder import read_model
from oracles.make_runs_0_1 import FINETUNE, PRETRAIN

PRETRAINING = PretrainConfig(stores=(Path("store"),), out=Path("pretrain-unfinished"), resume=True, **PRETRAIN)
FINETUNING = FinetuneConfig(store=Path("store"), out=Path("finetune-unfinished"), resume=True, **FINETUNE)
NEAR = 3e-5
"""In the few steps left, sums in another order (of two threads) change 2e-6, and the steps themselves 2e-4 and more."""


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch) -> None:
    """A copy of the folder in which the old commands were given: their paths are relative to it."""
    shutil.copytree(Path(__file__).parent / "runs-0.1", tmp_path / "runs")
    monkeypatch.chdir(tmp_path / "runs")


def segmented(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path / "p0.nii.gz")))


def alike(first: np.ndarray, second: np.ndarray) -> bool:
    """But for a voxel that lies, but for rounding, between two classes."""
    return first.shape == second.shape and (first != second).sum() <= 2


@pytest.mark.parametrize(("resume", "config"), [(pretrain, PRETRAINING), (finetune, FINETUNING)])
def test_an_unfinished_run_goes_on_to_the_weights_that_it_would_have_ended_in(resume, config, capsys):
    (checkpoint,) = (config.out / "checkpoints").iterdir()
    before = jcl.training.checkpoint.read_weights(checkpoint / "model.safetensors")
    wanted = read_model(Path(config.out.name.removesuffix("-unfinished")))
    found = read_model(resume(config))
    assert found.keys() == wanted.keys() == before.keys()
    assert all(torch.allclose(found[name], wanted[name], rtol=NEAR, atol=NEAR) for name in wanted)
    moved = [not torch.allclose(before[name], wanted[name], rtol=NEAR, atol=NEAR) for name in wanted]
    assert sum(moved) > len(moved) / 2
    assert "as before" in capsys.readouterr().err


def test_a_finished_run_is_left_as_it_is_and_other_settings_are_another_run(capsys):
    for resume, config, name in ((pretrain, PRETRAINING, "pretrain"), (finetune, FINETUNING, "finetune")):
        kept = Path(name, "model.safetensors").stat().st_mtime_ns
        done = type(config)(**{**vars(config), "out": Path(name)})
        resume(done)
        assert Path(name, "model.safetensors").stat().st_mtime_ns == kept
        assert "finished already" in capsys.readouterr().err
        with pytest.raises(UsageError, match=r"settings\.seed: 0 -> 1"):
            resume(type(config)(**{**vars(config), "seed": 1}))


def test_fine_tuning_begins_with_an_old_pre_training(tmp_path):
    """As many tensors are taken over as then; a rate of nearly 0 leaves them as they are."""
    settings = {**FINETUNE, "init": "pretrain", "steps": 1, "learning_rate": 1e-12, "allow_seen": True}
    run = finetune(FinetuneConfig(store=Path("store"), out=tmp_path / "run", **settings))
    init = read_json(run / "run.json")["init"]
    assert {"digest": init["digest"], **read_json(Path("finetune/run.json"))["init"]} == init
    before, after = read_model(Path("pretrain")), read_model(run)
    taken = [name for name in after if name.startswith(("encoder.", "decoder.0.")) and "running" not in name]
    assert len(taken) > 40
    for name in taken:
        if not name.endswith("num_batches_tracked"):
            assert torch.allclose(after[name], before[f"backbone.{name}"], atol=1e-6), name


def test_an_old_fine_tuning_scores_and_segments_as_it_did(tmp_path):
    run = Path("finetune")
    scores = evaluate(EvaluateConfig(run=run, out=tmp_path / "scores.json", precision="float32"))
    wanted = read_json(Path("scores.json"))
    assert [case["case"] for case in scores["cases"]] == [case["case"] for case in wanted["cases"]] == ["p1", "p2"]
    for found, old in zip(scores["cases"], wanted["cases"], strict=True):
        assert found["classes"]["ball"] == pytest.approx(old["classes"]["ball"], rel=0.02)
        assert found["classes"]["ball"]["dice"] > 0.9
    assert {*wanted, *wanted["mean"], *wanted["interval"]} <= {*scores, *scores["mean"], *scores["interval"]}
    scan = Path("scans/images/p0.nii.gz")
    predict(PredictConfig(run=run, source=scan, out=tmp_path / "out", precision="float32"))
    assert segmented(Path("segmentation")).sum() > 100
    assert alike(segmented(tmp_path / "out"), segmented(Path("segmentation")))


def test_an_old_folder_for_the_hub_segments_as_its_run_did():
    segmenter = jcl.load(Path("hub"))
    assert segmenter.classes == ("ball",)
    assert alike(segmenter.segment("scans/images/p0.nii.gz", precision="float32"), segmented(Path("segmentation")))
