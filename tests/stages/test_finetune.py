"""Fine-tuning: from scratch and from a pre-training, few patients, resume, and what it refuses."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from jcl.config import FinetuneConfig, PretrainConfig
from jcl.data.splits import Split, write_split
from jcl.errors import DataError, UsageError
from jcl.files import read_json
from jcl.stages import finetune as stage
from jcl.stages.finetune import finetune
from jcl.stages.pretrain import pretrain
from jcl.training.run_folder import load_network, read_model
from support.scans import write_volumes
from support.shared import made_once


def config(store: Path, out: Path, **settings) -> FinetuneConfig:
    return FinetuneConfig(**{"store": store, "out": out, "init": "none", "folds": 3, "steps": 16, **settings})


@pytest.fixture(scope="module")
def pretrained(store_path, tmp_path_factory) -> Path:
    small = {
        "stores": (store_path,),
        "fold": 0,
        "folds": 3,
        "width": 2,
        "steps": 12,
        "batch_size": 4,
        "method_settings": {"projection": 8},
    }
    return made_once(tmp_path_factory, "pretrained-to-finetune", lambda out: pretrain(PretrainConfig(**small, out=out)))


@pytest.fixture(scope="module")
def unbroken(store_path, pretrained, tmp_path_factory) -> Path:
    settings = {"init": str(pretrained), "patients": 2}
    return made_once(tmp_path_factory, "finetuned", lambda out: finetune(config(store_path, out, **settings)))


def test_run_folder_tells_all(unbroken, pretrained):
    info = read_json(unbroken / "run.json")
    assert info["kind"] == "finetune"
    assert info["backbone"] == {"name": "unet", "in_channels": 1, "classes": 2, "width": 2}
    assert info["class_names"] == ["ball"]
    assert info["init"]["run"] == str(pretrained)
    assert "tensors loaded" in info["init"]["report"]
    assert info["recipe"]["normalisation"] == "minmax"
    assert set(info["seen_mm"]) == {"pixels", "slices"}
    assert set(info["seen_plane"]) == {"direction", "within"}
    split = read_json(unbroken / "split.json")
    assert len(split["train"]) == 2
    assert len(split["test"]) == 2
    assert not set(split["train"]) & set(split["test"])


def test_it_learns_to_find_the_ball(store_path, tmp_path):
    run = finetune(config(store_path, tmp_path / "run", width=4, steps=60, learning_rate=2e-2))
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < 0.2 * log[0]["loss"]
    network, info = load_network(run)
    assert not network.training
    assert info["class_names"] == ["ball"]


def test_the_rate_falls_along_a_cosine_to_a_hundredth(store_path, tmp_path, monkeypatch):
    """Of a half circle in quarters: (1 + cos) / 2 is 1, 0.8536, 0.5 and 0.1464, above the hundredth."""
    rates: list[float] = []
    monkeypatch.setattr(stage, "set_learning_rate", lambda optimizer, rate: rates.append(rate))
    finetune(config(store_path, tmp_path / "run", width=2, steps=4, learning_rate=0.1))
    assert rates == pytest.approx([0.001 + 0.099 * share for share in (1, 0.8535534, 0.5, 0.1464466)])


def test_weight_decay_is_that_of_adam(store_path, tmp_path, monkeypatch):
    """1e-5 changes weights less than a step's rounding would show, so the optimiser itself is asked."""
    asked: list[float] = []
    plain = stage.adam

    def adam(parameters, *, weight_decay):
        asked.append(weight_decay)
        return plain(parameters, weight_decay=weight_decay)

    monkeypatch.setattr(stage, "adam", adam)
    finetune(config(store_path, tmp_path / "none", width=2, steps=1))
    run = finetune(config(store_path, tmp_path / "some", width=2, steps=1, weight_decay=1e-5))
    assert asked == [0.0, 1e-5]
    assert read_json(run / "run.json")["settings"]["weight_decay"] == 1e-5


def test_all_of_each_batch_is_drawn_by_structure(store_path, tmp_path, monkeypatch):
    shown: list[bool] = []
    augment = stage.augment_batch

    def note(batch, ranges, *, generator):
        shown.extend((batch.labels > 0).any((1, 2)).tolist())
        return augment(batch, ranges, generator=generator)

    monkeypatch.setattr(stage, "augment_batch", note)
    finetune(config(store_path, tmp_path / "plain"))
    assert not all(shown)
    shown.clear()
    finetune(config(store_path, tmp_path / "drawn", foreground=1.0))
    assert shown
    assert all(shown)


def test_starts_from_the_pretrained_weights(store_path, pretrained, tmp_path):
    """With a rate of nearly 0, encoder and two decoder blocks stay those of the run; the rest is new."""
    run = finetune(config(store_path, tmp_path / "run", init=str(pretrained), steps=1, learning_rate=1e-12, seed=5))
    before, after = read_model(pretrained), read_model(run)
    for name, tensor in after.items():
        if not name.endswith(("weight", "bias")) or name.startswith("head"):
            continue
        carried = name.startswith(("encoder.", "decoder.0.", "decoder.1."))
        same = torch.allclose(tensor, before[f"backbone.{name}"], atol=1e-6)
        constant = torch.allclose(tensor, tensor.flatten()[0])  # a fresh normalisation: ones or zeros
        assert same if carried else (not same or constant), name


def test_subsets_nest_and_the_test_patients_stay(store_path, tmp_path):
    splits = [
        read_json(finetune(config(store_path, tmp_path / str(m), width=2, steps=1, patients=m)) / "split.json")
        for m in (1, 2, 3)
    ]
    assert set(splits[0]["train"]) < set(splits[1]["train"]) < set(splits[2]["train"])
    assert splits[0]["test"] == splits[1]["test"] == splits[2]["test"]


@pytest.mark.slow
def test_killed_and_resumed_equals_unbroken(unbroken, store_path, pretrained, tmp_path):
    """Killed with workers that read ahead, gone on with without."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "jcl", "finetune", str(store_path), "--init", str(pretrained), "--out", str(out)]
    command += ["--folds", "3", "--patients", "2", "--steps", "16", "--checkpoint-minutes", "0", "--resume"]
    process = subprocess.Popen([*command, "--workers", "2"], stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 120
    while not any(int(p.name[5:]) >= 5 for p in (out / "checkpoints").glob("step-*")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < limit
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (out / "model.json").exists()
    finetune(config(store_path, out, init=str(pretrained), patients=2, resume=True, workers=0))
    assert (out / "model.safetensors").read_bytes() == (unbroken / "model.safetensors").read_bytes()


def test_given_split_file(store_path, tmp_path):
    write_split(tmp_path / "s.json", Split(train=("p1", "p4"), test=("p0",)))
    run = finetune(config(store_path, tmp_path / "run", width=2, steps=1, split=tmp_path / "s.json"))
    assert read_json(run / "split.json")["train"] == ["p1", "p4"]
    write_split(tmp_path / "bad.json", Split(train=("nobody",), test=("p0",)))
    with pytest.raises(UsageError, match="nobody"):
        finetune(config(store_path, tmp_path / "bad", split=tmp_path / "bad.json"))


def test_too_many_patients(store_path, tmp_path):
    with pytest.raises(UsageError, match="4"):
        finetune(config(store_path, tmp_path / "run", patients=9))


def test_another_width_than_the_initial_run(store_path, pretrained, tmp_path):
    with pytest.raises(UsageError, match="width 16 does not fit"):
        finetune(config(store_path, tmp_path / "run", init=str(pretrained), width=16))
    assert not (tmp_path / "run").exists()


def test_init_that_is_no_pretraining(store_path, unbroken, tmp_path):
    with pytest.raises(DataError, match="pretrain run is needed"):
        finetune(config(store_path, tmp_path / "a", init=str(unbroken)))
    with pytest.raises(DataError, match="not a run folder"):
        finetune(config(store_path, tmp_path / "b", init=str(tmp_path)))


def test_store_without_labels(tmp_path):
    from jcl.config import PrepareConfig
    from jcl.stages.prepare import prepare

    source = write_volumes(tmp_path / "scans", patients=3, labelled=0)
    prepare(PrepareConfig(source=source, out=tmp_path / "store", workers=1))
    with pytest.raises(DataError, match="no labelled case"):
        finetune(config(tmp_path / "store", tmp_path / "run"))


def test_label_noise_changes_the_training_alone(store_path, tmp_path):
    """The same wrong labels at each run; what is recorded says so."""
    runs = {
        name: finetune(config(store_path, tmp_path / name, width=2, steps=4, label_noise=noise))
        for name, noise in (("clean", 0.0), ("noisy", 0.9), ("again", 0.9))
    }
    weights = {name: (run / "model.safetensors").read_bytes() for name, run in runs.items()}
    assert weights["noisy"] == weights["again"]
    assert weights["noisy"] != weights["clean"]
    assert read_json(runs["noisy"] / "run.json")["settings"]["label_noise"] == 0.9
    with pytest.raises(UsageError, match="label_noise is 2"):
        finetune(config(store_path, tmp_path / "bad", label_noise=2.0))
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize("setting", ["label_noise", "weight_decay"])
def test_a_run_from_before_there_was_a_setting_goes_on(store_path, tmp_path, setting):
    run = finetune(config(store_path, tmp_path / "run", width=2, steps=2))
    recorded = read_json(run / "run.json")
    del recorded["settings"][setting]
    (run / "run.json").write_text(json.dumps(recorded))
    (run / "model.json").unlink()
    finetune(config(store_path, run, width=2, steps=2, resume=True))
    with pytest.raises(UsageError, match=rf"settings.{setting}: 0.0 -> 0.5"):
        finetune(config(store_path, run, width=2, steps=2, resume=True, **{setting: 0.5}))
