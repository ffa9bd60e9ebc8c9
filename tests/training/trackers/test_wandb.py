"""Weights & Biases: real trainings offline, whose run files are read back."""

import json

import pytest

from jcl.config import FinetuneConfig
from jcl.files import read_json
from jcl.stages.finetune import finetune
from support.wandbfiles import records

pytest.importorskip("wandb", reason="wandb is not installed: pip install 'jcl-seg[wandb]'")

SMALL = {"width": 2, "steps": 20, "batch_size": 4, "precision": "float32", "kernels": "off", "compile": "off"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_training_offline_leaves_its_run_file(store_path, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_DIR", raising=False)
    settings = {"store": store_path, "init": "none", "patients": 2, "watch_every": 20, **SMALL}
    run = finetune(FinetuneConfig(out=tmp_path / "fine", tracker=("wandb",), **settings))
    run_id = read_json(run / "trackers.json")["wandb"]
    (file,) = (run / "wandb").glob(f"offline-run-*/run-{run_id}.wandb")
    found = list(records(file))
    kinds = {record.WhichOneof("record_type") for record in found}
    assert {"run", "history", "exit"} <= kinds
    assert "wandb does not get" not in capsys.readouterr().err
    history = _rows(record.history for record in found if record.WhichOneof("record_type") == "history")
    losses = {row["_step"]: row["loss"] for row in history if "loss" in row}
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert losses == pytest.approx({line["step"]: line["loss"] for line in logged}, rel=1e-5)
    assert any(name.startswith("predictions") for row in history for name in row)
    assert list((run / "wandb").rglob("predictions_20_*.png"))
    config = _config(found)
    assert config["batch_size"] == 4
    assert config["jcl.digest.stores"] == read_json(run / "run.json")["store_digest"]
    assert not {"store", "out", "watch"} & set(config)


def _rows(histories) -> list[dict]:
    rows = []
    for history in histories:
        row = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in history.item}
        rows.append({"_step": history.step.num, **row})
    return rows


def _config(found: list) -> dict:
    (run,) = [record.run for record in found if record.WhichOneof("record_type") == "run"][:1]
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in run.config.update}
