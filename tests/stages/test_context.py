"""Slices with their neighbours from pre-training to fine-tuning: what is recorded, taken over, resumed and refused."""

import shutil
from pathlib import Path

import pytest

from jcl import semi
from jcl.cli import main as cli
from jcl.config import FinetuneConfig, PretrainConfig
from jcl.data.batches import SliceDataset
from jcl.data.store import Store
from jcl.errors import DataError, UsageError
from jcl.files import read_json, write_json
from jcl.stages.finetune import finetune
from jcl.stages.pretrain import pretrain
from jcl.training import session
from support.interrupted import stopped
from support.shared import made_once


def pretraining(store: Path, out: Path, **settings) -> PretrainConfig:
    small = {"width": 2, "steps": 6, "batch_size": 4, "method_settings": {"projection": 8, "blocks": 1}, "fold": 0}
    return PretrainConfig(**{"stores": (store,), "out": out, "context": 1, "folds": 3, **small, **settings})


def finetuning(store: Path, out: Path, init: Path | str, **settings) -> FinetuneConfig:
    width = {"width": 2} if init == "none" else {}
    return FinetuneConfig(
        **{"store": store, "out": out, "init": str(init), "folds": 3, "steps": 4, **width, **settings}
    )


@pytest.fixture(scope="module")
def pretrained(store_path, tmp_path_factory) -> Path:
    return made_once(tmp_path_factory, "context-1", lambda out: pretrain(pretraining(store_path, out)))


@pytest.fixture(scope="module")
def alone(store_path, tmp_path_factory) -> Path:
    return made_once(tmp_path_factory, "context-0", lambda out: pretrain(pretraining(store_path, out, context=0)))


def test_a_pre_training_records_it_and_a_fine_tuning_takes_it_over(store_path, pretrained, tmp_path, capsys):
    info = read_json(pretrained / "run.json")
    assert info["settings"]["context"] == 1
    assert info["backbone"]["in_channels"] == 3
    run = finetune(finetuning(store_path, tmp_path / "run", pretrained))
    info = read_json(run / "run.json")
    assert info["settings"]["context"] == 1
    assert info["backbone"]["in_channels"] == 3
    assert info["recipe"] == {**Store.open(store_path).preparation, "context": 1}
    assert "adapted" not in info["init"]["report"]
    assert " slices with 1 on either side, from " in capsys.readouterr().err
    assert cli.main(["verify", str(run)]) == 0
    assert "finetune, 4 steps, slices with 1 on either side, jcl" in capsys.readouterr().out


def test_a_file_of_weights_in_the_run_says_as_much(store_path, pretrained, tmp_path):
    run = finetune(finetuning(store_path, tmp_path / "run", pretrained / "model.safetensors", width=2))
    assert read_json(run / "run.json")["settings"]["context"] == 1


@pytest.mark.parametrize("asked", [0, 2])
def test_another_context_than_the_pre_training_had_is_refused(store_path, pretrained, tmp_path, asked):
    said = f"--context {asked} does not fit .* with context 1; leave it out, or pre-train with --context {asked}"
    with pytest.raises(UsageError, match=said):
        finetune(finetuning(store_path, tmp_path / "run", pretrained, context=asked))
    assert not (tmp_path / "run").exists()


def test_a_pre_training_of_slices_alone_is_adapted(store_path, alone, tmp_path):
    run = finetune(finetuning(store_path, tmp_path / "run", alone, context=1))
    info = read_json(run / "run.json")
    assert "1 adapted to the number of channels by mean" in info["init"]["report"]
    assert (info["backbone"]["in_channels"], info["recipe"]["context"]) == (3, 1)


def test_without_it_nothing_is_new(store_path, alone, tmp_path):
    """Each image is the slice, and the preparation is that of the store."""
    run = finetune(finetuning(store_path, tmp_path / "run", alone))
    info = read_json(run / "run.json")
    assert info["recipe"] == Store.open(store_path).preparation
    assert (info["settings"]["context"], info["backbone"]["in_channels"]) == (0, 1)


def without_context(run: Path) -> None:
    """As a version that had none wrote it."""
    info = read_json(run / "run.json")
    del info["settings"]["context"]
    write_json(run / "run.json", info, seal=True)


def test_runs_from_before_there_was_any_go_on(store_path, alone, tmp_path):
    pre = Path(shutil.copytree(alone, tmp_path / "pre"))
    without_context(pre)
    assert pretrain(pretraining(store_path, pre, context=0, resume=True)) == pre
    with pytest.raises(UsageError, match=r"settings.context: 0 -> 1"):
        pretrain(pretraining(store_path, pre, resume=True))
    fine = finetune(finetuning(store_path, tmp_path / "fine", pre))
    assert read_json(fine / "run.json")["settings"]["context"] == 0
    without_context(fine)
    assert finetune(finetuning(store_path, fine, pre, resume=True)) == fine
    with pytest.raises(UsageError, match=r"settings.context: 0 -> 1"):
        finetune(finetuning(store_path, fine, pre, context=1, resume=True))


def test_a_pre_training_goes_on_bit_for_bit(store_path, pretrained, tmp_path, monkeypatch):
    stopped(monkeypatch, lambda: pretrain(pretraining(store_path, tmp_path / "run")), 3)
    pretrain(pretraining(store_path, tmp_path / "run", resume=True))
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (pretrained / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "name", ["none", "mean_teacher", *(pytest.param(n, marks=pytest.mark.slow) for n in ("bcp", "cps", "unimatch"))]
)
def test_a_fine_tuning_goes_on_bit_for_bit(store_path, tmp_path, monkeypatch, name):
    """From random weights; with a technique, whose slices without labels have their neighbours as well."""
    assert name in ("none", *semi.available())
    more = {"semi": name, "patients": 1, "context": 1}
    seen: list[tuple[bool, int]] = []
    plain = SliceDataset.read
    monkeypatch.setattr(
        SliceDataset,
        "read",
        lambda self, *which, **how: (seen.append((self.labels, self.context)), plain(self, *which, **how))[1],
    )
    whole = finetune(finetuning(store_path, tmp_path / "whole", "none", **more))
    assert {*seen} == {(True, 1)} | ({(False, 1)} if name != "none" else set())
    stopped(monkeypatch, lambda: finetune(finetuning(store_path, tmp_path / "run", "none", **more)), 2)
    finetune(finetuning(store_path, tmp_path / "run", "none", **more, resume=True))
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_the_pictures_of_the_views_are_of_the_slice_itself(store_path, tmp_path, monkeypatch):
    """Of each channel that is shown first: the middle one, not the neighbour before."""
    from jcl.methods.jcl import JCL

    shown: list[tuple[int, ...]] = []
    monkeypatch.setattr(session.RunLog, "pictures", lambda self, name, images, **how: shown.append(tuple(images.shape)))
    views: list[tuple[int, ...]] = []
    plain = JCL.views
    monkeypatch.setattr(
        JCL, "views", lambda *given: (found := plain(*given), views.extend(tuple(v.shape) for v in found))[0]
    )
    pretrain(pretraining(store_path, tmp_path / "run", steps=1))
    assert views
    assert {shape[1] for shape in views} == {3}
    assert {shape[1] for shape in shown} == {2}


@pytest.mark.parametrize("value", ["-1", "33", "1.5"])
def test_numbers_that_cannot_be_meant(store_path, tmp_path, capsys, value):
    for command in (["pretrain", str(store_path)], ["finetune", str(store_path), "--init", "none"]):
        assert cli.main([*command, "--out", str(tmp_path / "run"), f"--context={value}"]) == 2
        assert "context" in capsys.readouterr().err


@pytest.mark.parametrize("value", [-3, "one", 10**9])
def test_an_initial_run_that_says_what_cannot_be(store_path, pretrained, tmp_path, value):
    run = Path(shutil.copytree(pretrained, tmp_path / "pre"))
    info = read_json(run / "run.json")
    info["settings"]["context"] = value
    write_json(run / "run.json", info, seal=True)
    with pytest.raises(DataError, match=r"pre/run.json: context is .* is needed; restore it"):
        finetune(finetuning(store_path, tmp_path / "run", run))
