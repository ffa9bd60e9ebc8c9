"""Every long stage says what it will cost and how far it is, and computes the same as where nothing is said."""

import re
from pathlib import Path

import pytest

from jcl.config import EvaluateConfig, FinetuneConfig, PredictConfig, PrepareConfig, PretrainConfig
from jcl.files import read_json
from jcl.parallel import progress
from jcl.stages.evaluate import evaluate
from jcl.stages.finetune import finetune
from jcl.stages.predict import predict
from jcl.stages.prepare import prepare
from jcl.stages.pretrain import pretrain
from support.scans import write_volumes

SMALL = {"width": 2, "steps": 4, "batch_size": 4, "precision": "float32", "kernels": "off"}


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All work counts as long, and as measured from its first step on."""
    for name in ("FIRST_SECONDS", "PLAIN_SECONDS", "MEASURED_SECONDS", "ANNOUNCED_SECONDS"):
        monkeypatch.setattr(progress, name, -1.0)


def expected(text: str, title: str, number: int, unit: str) -> bool:
    line = rf"^{title}: expected for {number} {unit}: about \d+ s, [\d.]+ [MG]B of memory, \d+ MB on the disk$"
    return len(re.findall(line, text, re.MULTILINE)) == 1


def test_training(store_path: Path, tmp_path: Path, at_once: None, capsys: pytest.CaptureFixture[str]) -> None:
    pretrain(PretrainConfig(stores=(store_path,), out=tmp_path / "pre", **SMALL))
    text = capsys.readouterr().err
    assert expected(text, "pre-train", 4, "steps")
    assert re.search(r"^pre-train: step 3/4, \d+ s left$", text, re.MULTILINE)
    assert set(read_json(tmp_path / "pre" / "cost.json")) == {"seconds", "memory", "disk"}


def test_weights_are_those_of_a_run_that_says_nothing(
    store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    finetune(FinetuneConfig(store=store_path, init="none", out=tmp_path / "quiet", **SMALL))
    request.getfixturevalue("at_once")
    finetune(FinetuneConfig(store=store_path, init="none", out=tmp_path / "loud", **SMALL))
    quiet, loud = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("quiet", "loud"))
    assert quiet == loud
    assert not (tmp_path / "quiet" / "cost.json").exists()
    disk = read_json(tmp_path / "loud" / "cost.json")["disk"]
    assert disk == pytest.approx(len(loud), rel=0.2)  # no checkpoint within so short a run


def test_disk_counts_the_checkpoints_that_there_will_be(store_path: Path, tmp_path: Path, at_once: None) -> None:
    """Two that are kept and one that is written beside them, each with the two moments of Adam."""
    out = tmp_path / "run"
    finetune(FinetuneConfig(store=store_path, init="none", out=out, checkpoint_minutes=0.0, **SMALL))
    there = sum(path.stat().st_size for path in (out / "checkpoints").rglob("*.safetensors"))
    final = (out / "model.safetensors").stat().st_size
    assert read_json(out / "cost.json")["disk"] == pytest.approx(1.5 * there + final, rel=0.2)


def test_scans(tmp_path: Path, at_once: None, capsys: pytest.CaptureFixture[str]) -> None:
    scans = write_volumes(tmp_path / "scans", patients=5, labelled=5)
    store, run = tmp_path / "store", tmp_path / "run"
    prepare(PrepareConfig(source=scans, out=store, workers=1))
    text = capsys.readouterr().err
    assert expected(text, "prepare", 5, "cases")
    assert re.search(r"^read labels: 2 of 5, p1, \d+ s left$", text, re.MULTILINE)
    finetune(FinetuneConfig(store=store, init="none", out=run, **SMALL))
    capsys.readouterr()
    predict(PredictConfig(run=run, source=scans / "images", out=tmp_path / "out"))
    text = capsys.readouterr().err
    assert expected(text, "predict", 5, "scans")
    assert "predict: 1 of 5 and 100 % of the next, p1" in text
    evaluate(EvaluateConfig(run=run, out=tmp_path / "results.json"))
    assert "evaluate: 0 of 1 and 100 % of the next" in capsys.readouterr().err
