"""Trainings on kernels are the plain ones but for rounding; they are recorded, repeat to the bit, go on as begun."""

import json
from pathlib import Path

import pytest
import torch

from jcl.config import FinetuneConfig, PretrainConfig
from jcl.errors import UsageError
from jcl.files import read_json
from jcl.kernels import library
from jcl.stages.finetune import finetune
from jcl.stages.pretrain import pretrain
from jcl.training.run_folder import read_model
from support.onkernels import lanes

WIDTH = lanes()


def run(kind: str, store: Path, out: Path, **settings) -> Path:
    shared = {"out": out, "width": WIDTH, "steps": 12, "batch_size": 4, "precision": "float32", "compile": "off"}
    if kind == "pretrain":
        small = {"projection": 8, "blocks": 1}
        return pretrain(PretrainConfig(stores=(store,), method_settings=small, **{**shared, **settings}))
    return finetune(FinetuneConfig(store=store, init="none", **{**shared, **settings}))


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_the_first_losses_are_those_of_the_plain_run(kind, store_path, tmp_path):
    """Of the weights as they begin, and after one step of learning: the forward pass and the gradient as a whole.

    Later, trainings drift apart from any change of the last bits, as float32 does from float64: 1e-2 after some steps.
    """
    for steps, near in ((1, 1e-5), (2, 2e-3)):
        plain = run(kind, store_path, tmp_path / f"plain{steps}", kernels="off", steps=steps)
        fast = run(kind, store_path, tmp_path / f"fast{steps}", kernels="on", steps=steps)
        assert losses(fast) == pytest.approx(losses(plain), rel=near)
        assert read_json(plain / "run.json")["kernels"] is False
        assert read_json(fast / "run.json")["kernels"] is True
        assert read_model(fast).keys() == read_model(plain).keys()


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_a_run_with_kernels_repeats_to_the_bit(kind, store_path, tmp_path):
    one, two = (run(kind, store_path, tmp_path / name, kernels="on") for name in ("one", "two"))
    assert all(torch.equal(read_model(two)[key], value) for key, value in read_model(one).items())


def test_a_short_run_takes_them_by_itself_and_goes_on_with_them(store_path, tmp_path, monkeypatch):
    out = run("finetune", store_path, tmp_path / "run")
    assert read_json(out / "run.json")["kernels"] is True
    monkeypatch.setenv("JCL_KERNELS", "off")
    library.load_library.cache_clear()
    try:
        plain = run("finetune", store_path, tmp_path / "plain")
        assert read_json(plain / "run.json")["kernels"] is False
        with pytest.raises(UsageError, match="kernels are on, but the kernels are off"):
            run("finetune", store_path, tmp_path / "other", kernels="on")
        # the record of the run that began with them stands, and is told where they are gone
        (out / "model.json").unlink()
        with pytest.raises(UsageError, match="kernels are off"):
            run("finetune", store_path, out, resume=True)
    finally:
        library.load_library.cache_clear()
