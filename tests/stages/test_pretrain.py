"""Pre-training as a user runs it: it learns, it goes on after any stop, and it refuses what cannot work."""

import json
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from jcl.config import PretrainConfig
from jcl.data.splits import Split, write_split
from jcl.data.store import Store
from jcl.errors import DataError, Interrupted, JclError, UsageError
from jcl.files import read_json, write_json
from jcl.methods.simtriplet import SimTriplet
from jcl.stages import pretrain as stage
from jcl.stages.pretrain import pretrain
from jcl.training.optim import set_learning_rate
from jcl.training.run_folder import read_model
from support.shared import made_once


def config(store: Path, out: Path, **settings) -> PretrainConfig:
    small = {"width": 2, "steps": 24, "batch_size": 4, "method_settings": {"projection": 8, "blocks": 1}}
    return PretrainConfig(**{"stores": (store,), "out": out, **small, **settings})


def entries(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def run_command(store: Path, out: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "jcl", "pretrain", str(store), "--out", str(out), "--width", "2", "--steps", "24"]
    command += ["--batch-size", "4", "--method.projection", "8", "--method.blocks", "1", "--resume", *more]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for_step(process: subprocess.Popen, run: Path, step: int) -> None:
    """Until that step has a checkpoint."""
    limit = time.monotonic() + 120
    while not any(int(p.name[5:]) >= step for p in (run / "checkpoints").glob("step-*")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < limit
        time.sleep(0.005)


@pytest.fixture(scope="module")
def unbroken(store_path, tmp_path_factory) -> Path:
    return made_once(tmp_path_factory, "pretrained", lambda out: pretrain(config(store_path, out)))


def test_run_folder_tells_all(unbroken, store_path):
    info = read_json(unbroken / "run.json")
    assert info["kind"] == "pretrain"
    assert info["backbone"] == {"name": "unet", "in_channels": 1, "classes": 2, "width": 2}
    assert info["transfers"] == ["encoder", "decoder.0"]
    assert info["stores"] == [{"path": str(store_path), "digest": Store.open(store_path).digest}]
    assert set(info["versions"]) >= {"jcl", "torch", "numpy"}
    assert info["settings"]["seed"] == 0
    log = entries(unbroken)
    assert [line["step"] for line in log] == [10, 20, 24]
    for name in (
        "loss",
        "global",
        "dense",
        "equivariance",
        "learning_rate",
        "slices_per_second",
        "feature_std",
        "alignment",
    ):
        assert name in log[0]
    assert log[0]["loss"] == pytest.approx(log[0]["global"] + 0.5 * log[0]["dense"] + log[0]["equivariance"], rel=1e-4)
    assert list((unbroken / "tensorboard").glob("events*"))


def test_it_learns(unbroken):
    log = entries(unbroken)
    assert log[-1]["loss"] < 0.9 * log[0]["loss"]


def test_same_seed_same_weights_other_seed_others(unbroken, store_path, tmp_path):
    same = pretrain(config(store_path, tmp_path / "same"))
    other = pretrain(config(store_path, tmp_path / "other", seed=1))
    assert (same / "model.safetensors").read_bytes() == (unbroken / "model.safetensors").read_bytes()
    assert (other / "model.safetensors").read_bytes() != (unbroken / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_killed_and_resumed_equals_unbroken(unbroken, store_path, tmp_path):
    """kill -9 at whatever step it has come to, without workers and with them; threads as in the unbroken run."""
    out = tmp_path / "run"
    threads = torch.get_num_threads()
    for workers, step in ((0, 3), (2, 14)):
        process = run_command(store_path, out, "--workers", str(workers), "--checkpoint-minutes", "0")
        wait_for_step(process, out, step)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (out / "model.json").exists()
    torch.set_num_threads(threads)
    pretrain(config(store_path, out, resume=True))
    assert (out / "model.safetensors").read_bytes() == (unbroken / "model.safetensors").read_bytes()
    assert [line["step"] for line in entries(out)][-1] == 24


@pytest.mark.slow
def test_a_signal_saves_and_says_how_to_go_on(unbroken, store_path, tmp_path):
    """SIGTERM does the same (tests/training/test_interrupt.py)."""
    out = tmp_path / "run"
    process = run_command(store_path, out, "--checkpoint-minutes", "0")
    wait_for_step(process, out, 2)
    process.send_signal(signal.SIGINT)
    message = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert "--resume" in message.splitlines()[-1]
    pretrain(config(store_path, out, resume=True))
    assert (out / "model.safetensors").read_bytes() == (unbroken / "model.safetensors").read_bytes()


def test_neighbours_from_the_store_are_the_same_when_a_run_goes_on(store_path, tmp_path, monkeypatch):
    """Whatever the number of threads; SimTriplet reads one with each slice."""
    settings = {"projection": 8, "bottleneck": 4, "neighbours": "store"}
    given = {"method": "simtriplet", "method_settings": settings, "steps": 8, "checkpoint_minutes": 0.0}
    whole = pretrain(config(store_path, tmp_path / "whole", **given))
    assert {line["paired"] for line in entries(whole)} == {1.0}
    with monkeypatch.context() as patched:
        patched.setattr(SimTriplet, "after_step", stop_at(5 / 8))
        with pytest.raises(KeyboardInterrupt):
            pretrain(config(store_path, tmp_path / "stopped", **given))
    resumed = pretrain(config(store_path, tmp_path / "stopped", resume=True, workers=2, **given))
    assert (resumed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_the_rate_need_not_end_at_0_and_gradients_are_clipped(store_path, tmp_path, monkeypatch):
    """By the step: PyTorch's cosine to the floor behind the warm-up; what decays is asked of the method."""
    rates, norms, decays = [], [], []

    class Spy(SimTriplet):
        final_rate, decays_all, clip = 0.2, False, 0.01

        def after_step(self, progress):
            norms.append(max(float(p.grad.norm()) for p in self.parameters() if p.grad is not None))

    def spy(optimizer, rate):
        rates.append(rate)
        decays.append([group["weight_decay"] for group in optimizer.param_groups])
        set_learning_rate(optimizer, rate)

    monkeypatch.setattr(stage, "set_learning_rate", spy)
    monkeypatch.setattr(stage.methods, "build", lambda name, backbone, given: Spy(backbone, projection=8, bottleneck=4))
    given = {"steps": 10, "warmup": 0.2, "learning_rate": 0.1, "weight_decay": 0.3, "method": "simtriplet"}
    pretrain(config(store_path, tmp_path / "run", method_settings={}, **given))
    parameter = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(parameter, T_max=8, eta_min=0.02)
    wanted = [0.05, 0.1]
    for _ in range(8):
        wanted.append(schedule.get_last_lr()[0])
        parameter.step()
        schedule.step()
    assert rates == pytest.approx(wanted)
    assert max(norms) == pytest.approx(0.01, rel=1e-3)
    assert decays == [[0.3, 0.0]] * 10


def stop_at(share: float):
    def after_step(_: SimTriplet, progress: float) -> None:
        if progress >= share:
            raise KeyboardInterrupt

    return after_step


def test_an_existing_run_is_not_overwritten(unbroken, store_path):
    before = (unbroken / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(UsageError, match="exists"):
        pretrain(config(store_path, unbroken))
    pretrain(config(store_path, unbroken, resume=True))  # finished already
    assert (unbroken / "model.safetensors").stat().st_mtime_ns == before


def test_resuming_with_other_settings_shows_the_difference(unbroken, store_path):
    with pytest.raises(UsageError, match=r"settings\.seed: 0 -> 3"):
        pretrain(config(store_path, unbroken, resume=True, seed=3))


def test_a_run_of_before_its_method_was_tuned_keeps_the_rate_that_it_had(store_path, tmp_path):
    """Of versions that did not record it: going on with the rate of today would end in weights of neither."""
    simclr = {"method": "simclr", "method_settings": {"projection": 8}, "steps": 3}
    run = pretrain(config(store_path, tmp_path / "run", learning_rate=0.01, **simclr))
    info = read_json(run / "run.json")
    assert info["method"]["learning_rate"] == 0.01
    assert info["method"]["projection"] == 8
    del info["method"]
    info["settings"]["learning_rate"] = None
    write_json(run / "run.json", info, seal=True)
    with pytest.raises(UsageError, match=r"method\.learning_rate: 0\.01 -> 0\.0033"):
        pretrain(config(store_path, run, resume=True, **simclr))
    assert pretrain(config(store_path, run, resume=True, learning_rate=0.01, **simclr)) == run


def test_a_default_that_is_given_is_no_other_setting(unbroken, store_path):
    given = {"projection": 8, "blocks": 1, "temperature": 0.1}
    pretrain(config(store_path, unbroken, resume=True, learning_rate=0.01, method_settings=given))
    with pytest.raises(UsageError, match=r"method\.temperature: 0\.1 -> 0\.2"):
        pretrain(config(store_path, unbroken, resume=True, method_settings={**given, "temperature": 0.2}))


def test_several_batches_a_step_go_on_where_they_stopped(store_path, tmp_path, monkeypatch):
    """The batches of the steps to come are others than those of as many batches as there were steps."""
    several = {"accumulate": 2, "steps": 5, "learning_rate": 0.1, "kernels": "off", "precision": "float32"}
    whole = pretrain(config(store_path, tmp_path / "whole", **several))
    rates: list[float] = []

    def stop_in_the_third(optimizer: torch.optim.Optimizer, rate: float) -> None:
        rates.append(rate)
        if len(rates) == 3:
            signal.raise_signal(signal.SIGINT)
        set_learning_rate(optimizer, rate)

    out = tmp_path / "run"
    monkeypatch.setattr(stage, "set_learning_rate", stop_in_the_third)
    with pytest.raises(Interrupted, match="step 3"):
        pretrain(config(store_path, out, **several))
    with pytest.raises(UsageError, match=r"settings\.accumulate: 2 -> 1"):
        pretrain(config(store_path, out, resume=True, **{**several, "accumulate": 1}))
    pretrain(config(store_path, out, resume=True, **several))
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    other = pretrain(config(store_path, tmp_path / "other", **{**several, "accumulate": 1}))
    assert (other / "model.safetensors").read_bytes() != (whole / "model.safetensors").read_bytes()


def test_each_phase_has_a_schedule_of_its_own(store_path, tmp_path):
    settings = {"method": "gcl", "method_settings": {"region": 1}, "steps": 40, "warmup": 0.0}
    pretrain(config(store_path, tmp_path / "run", **settings))
    rates = [entry["learning_rate"] for entry in entries(tmp_path / "run")]
    assert len(rates) == 4  # means over ten steps
    assert rates[:2] == pytest.approx(rates[2:])
    assert rates[0] > rates[1]


def test_a_folder_that_is_no_run_is_left_alone(store_path, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not a run folder"):
        pretrain(config(store_path, tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_only_training_patients_are_used(store_path, tmp_path):
    fold = read_json(pretrain(config(store_path, tmp_path / "fold", steps=1, fold=0, folds=3)) / "split.json")
    patients = {c.patient for c in Store.open(store_path).cases}
    assert set(fold["train"]) | set(fold["test"]) == patients
    assert len(fold["test"]) == 2
    write_split(tmp_path / "split.json", Split(train=("p0", "p1"), test=("p2",)))
    run = pretrain(config(store_path, tmp_path / "split", steps=1, split=tmp_path / "split.json"))
    assert read_json(run / "split.json")["train"] == ["p0", "p1"]
    with pytest.raises(UsageError, match="not both"):
        pretrain(config(store_path, tmp_path / "both", split=tmp_path / "split.json", fold=0))


def test_held_back_patients_do_not_matter(store_path, tmp_path):
    """The weights come from the training patients alone: another image of a test patient changes nothing."""
    write_split(tmp_path / "split.json", Split(train=("p0", "p1", "p2"), test=("p3",)))
    settings = {"steps": 3, "split": tmp_path / "split.json"}
    run = pretrain(config(store_path, tmp_path / "a", **settings))
    copy = tmp_path / "store"
    shutil.copytree(store_path, copy)
    shutil.rmtree(next(p for p in copy.rglob("p3*") if p.is_dir()))
    again = pretrain(config(copy, tmp_path / "b", **settings))
    assert (run / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()


def test_several_stores_in_one_run(store_path, tmp_path):
    run = pretrain(config(store_path, tmp_path / "run", stores=(store_path, store_path), steps=4))
    assert len(read_json(run / "run.json")["stores"]) == 2
    assert "backbone.encoder.blocks.0.0.weight" in read_model(run)


def test_unknown_settings_and_methods_list_what_there_is(store_path, tmp_path):
    with pytest.raises(UsageError, match="temperature"):
        pretrain(config(store_path, tmp_path / "a", method_settings={"temprature": 0.2}))
    for wrong in ({"temperature": "abc"}, {"blocks": 1.5}, {"dominant_pixel_projector": 1}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            pretrain(config(store_path, tmp_path / "d", method_settings=wrong))
    with pytest.raises(UsageError, match="jcl"):
        pretrain(config(store_path, tmp_path / "b", method="jlc"))
    with pytest.raises(UsageError, match="unet"):
        pretrain(config(store_path, tmp_path / "c", backbone="vnet"))
    assert not list(tmp_path.iterdir()), "nothing is written before the settings are known to be good"


def test_a_store_that_is_none(tmp_path):
    with pytest.raises(DataError):
        pretrain(config(tmp_path / "nothing", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_collapse_is_told(store_path, tmp_path, monkeypatch):
    """Weight decay without a contrastive loss against it leaves every slice with the same projection."""
    monkeypatch.setattr(stage, "WATCHED_FROM", 40)
    settings = {"projection": 8, "blocks": 1, "global_weight": 0.0, "dense_weight": 0.0}
    shrinking = {"learning_rate": 0.5, "weight_decay": 0.2, "warmup": 0.0}
    with pytest.warns(UserWarning, match="collapsed"):
        pretrain(config(store_path, tmp_path / "run", steps=80, method_settings=settings, **shrinking))


@pytest.mark.parametrize(("steps", "step"), [(240, 200), (2000, 400)])
def test_collapse_is_told_once_and_not_while_projections_are_fresh(steps, step):
    """From step 200 on, or a fifth of the run; nothing is said of a spread that is healthy, or not measured."""
    watch = stage._Monitor(steps)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch(step - 1, {"loss": 1.0, "feature_std": 0.01})
        watch(step, {"loss": 1.0, "feature_std": 0.06})
        watch(step, {"loss": 1.0})
        watch(step, None)
    with pytest.warns(UserWarning, match=f"step {step + 1}: the features have collapsed"):
        watch(step, {"loss": 1.0, "feature_std": 0.01})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch(step + 10, {"loss": 1.0, "feature_std": 0.01})


def test_a_loss_that_is_no_number_ends_the_run(store_path, tmp_path):
    with pytest.raises(JclError, match="lower --learning-rate"):
        pretrain(config(store_path, tmp_path / "run", learning_rate=1e30))
