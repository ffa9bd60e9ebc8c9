"""Pre-training in three dimensions: what is recorded, taken over and resumed, and what is not offered."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jcl import methods
from jcl.cli import main as cli
from jcl.config import FinetuneConfig, PretrainConfig, SuggestConfig
from jcl.errors import UsageError
from jcl.files import read_json
from jcl.stages.finetune import finetune
from jcl.stages.pretrain import pretrain
from jcl.stages.suggest import suggest
from support.interrupted import same_weights, stopped
from support.shared import made_once

BLOCK = (4, 16, 16)
STRIDES = [[1, 2, 2], [1, 2, 2]]
TRAIN = ["--steps", "1", "--width", "2", "--batch-size", "2"]


def pretraining(store: Path, out: Path, **settings) -> PretrainConfig:
    usual = {"backbone": "unet3d", "block": BLOCK, "width": 2, "folds": 3, "fold": 0, "steps": 4, "batch_size": 3}
    small = {"method_settings": {"projection": 8}}
    return PretrainConfig(**{"stores": (store,), "out": out, **usual, **small, **settings})


@pytest.fixture(scope="module")
def pretrained(store_path, tmp_path_factory) -> Path:
    return made_once(tmp_path_factory, "pre-3d", lambda out: pretrain(pretraining(store_path, out)))


def test_a_pre_training_records_them_and_a_fine_tuning_takes_them_over(store_path, pretrained, tmp_path):
    info = read_json(pretrained / "run.json")
    assert info["settings"]["block"] == list(BLOCK)
    assert info["backbone"]["strides"] == STRIDES
    settings = {"store": store_path, "init": str(pretrained), "folds": 3, "steps": 2, "batch_size": 2}
    run = finetune(FinetuneConfig(**settings, out=tmp_path / "run"))
    found = read_json(run / "run.json")
    assert found["settings"]["block"] == list(BLOCK)
    assert found["backbone"]["strides"] == STRIDES
    assert "tensors loaded" in found["init"]["report"]
    assert cli.main(["verify", str(run)]) == 0
    larger = finetune(FinetuneConfig(**settings, out=tmp_path / "larger", block=(6, 24, 24)))
    found = read_json(larger / "run.json")
    assert (found["settings"]["block"], found["backbone"]["strides"]) == ([6, 24, 24], STRIDES)


def test_a_pre_training_goes_on_bit_for_bit(store_path, pretrained, tmp_path, monkeypatch):
    stopped(monkeypatch, lambda: pretrain(pretraining(store_path, tmp_path / "run")), 2)
    pretrain(pretraining(store_path, tmp_path / "run", resume=True))
    assert same_weights(tmp_path / "run", pretrained)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--backbone", "unet3d"], "unet3d sees blocks; say which with --block"),
        (["--block", "4", "16", "16"], r"--block is for .* \(.*unet3d\); unet sees slices"),
    ],
)
def test_a_block_goes_with_a_network_that_sees_it(store_path, tmp_path, capsys, more, said):
    refused(capsys, ["pretrain", str(store_path), *more, "--out", str(tmp_path / "run"), *TRAIN], said)


@pytest.mark.parametrize("method", [each for each in methods.available() if 3 not in methods.load(each).dimensions])
def test_other_methods_say_that_they_are_for_slices(store_path, tmp_path, capsys, method):
    command = ["pretrain", str(store_path), "--backbone", "unet3d", "--block", "4", "16", "16", "--method", method]
    said = f"{method} is not written for 3 dimensions; there are: byol, gcl, jcl, mae, moco, pcl, simclr, simsiam$"
    refused(capsys, [*command, "--out", str(tmp_path / "run"), *TRAIN], said)


def test_what_pre_training_does_not_offer(store_path, tmp_path, capsys):
    command = ["pretrain", str(store_path), "--backbone", "unet3d", "--block", "4", "16", "16"]
    out = ["--out", str(tmp_path / "run"), *TRAIN]
    refused(capsys, [*command, "--context", "1", *out], "--context is not offered in three dimensions yet")


def test_suggestions_are_not_offered(store_path, pretrained):
    with pytest.raises(UsageError, match="suggesting is not offered in three dimensions yet"):
        suggest(SuggestConfig(store=store_path, run=(pretrained,)))


def refused(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert cli.main(words) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("jcl: error: ")]
    assert len(lines) == 1
    assert re.search(said, lines[0]), lines[0]


@pytest.mark.parametrize("method", ["jcl", "pcl", "simclr", "mae"])
def test_views_are_of_blocks_with_what_lies_around_them(store_path, tmp_path, monkeypatch, method):
    """Twice the block along each side; and the views are sampled there, not in the block alone."""
    seen: list[tuple[int, ...]] = []
    brightest: list[float] = []
    kind = methods.load(method)
    usual = kind.views

    def note(self, batch, generator):
        seen.append(tuple(batch.surroundings.shape[2:]))
        around = torch.full_like(batch.surroundings, 100.0)
        outside = replace(batch, images=torch.zeros_like(batch.images), surroundings=around)
        kept = generator.get_state()
        brightest.append(max(float(view.max()) for view in usual(self, outside, generator)))
        generator.set_state(kept)
        return usual(self, batch, generator)

    monkeypatch.setattr(kind, "views", note)
    pretrain(pretraining(store_path, tmp_path / "run", method=method, steps=1, method_settings={}))
    assert set(seen) == {(8, 32, 32)}
    assert min(brightest) > 50
