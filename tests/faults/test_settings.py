"""A number that cannot be meant is refused before any work, by every stage, from the command line and from Python."""

import dataclasses
import math
import typing
from pathlib import Path
from typing import Any

import pytest
import torch

from jcl import config, methods
from jcl.backbones.unet import UNet
from jcl.benchmark.benchmark import benchmark
from jcl.errors import UsageError
from jcl.limits import METHODS, STAGES, check_numbers
from jcl.stages.evaluate import evaluate
from jcl.stages.finetune import finetune
from jcl.stages.predict import predict
from jcl.stages.prepare import prepare
from jcl.stages.pretrain import pretrain

RUN: dict[type[Any], Any] = {
    config.PrepareConfig: prepare,
    config.PretrainConfig: pretrain,
    config.FinetuneConfig: finetune,
    config.EvaluateConfig: evaluate,
    config.PredictConfig: predict,
    config.BenchmarkConfig: benchmark,
}
NEEDED: dict[str, Any] = {
    "source": Path("none"), "out": Path("out"), "stores": (Path("none"),), "store": Path("none"), "init": "none",
    "run": Path("none"), "recipe": Path("none"),
}  # fmt: skip


def numeric(kind: type[Any]) -> list[str]:
    hints = typing.get_type_hints(kind)
    return [f.name for f in dataclasses.fields(kind) if {int, float} & {hints[f.name], *typing.get_args(hints[f.name])}]


def given(kind: type[Any], **more: Any) -> Any:
    needed = [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
    needed += ["source"] * (kind is config.PredictConfig)  # or a watched folder
    return kind(**{name: NEEDED[name] for name in needed if name in NEEDED}, **more)


CASES = [(kind, name) for kind in RUN for name in numeric(kind)]


@pytest.mark.parametrize(("kind", "name"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_every_number_of_every_stage_has_limits(kind: type[Any], name: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert name in STAGES
    below = STAGES[name].least - 1
    hint = typing.get_type_hints(kind)[name]
    values = [below] + ([math.nan, math.inf, -math.inf] if float in (hint, *typing.get_args(hint)) else [])
    for value in values:
        with pytest.raises(UsageError, match=f"^{name} is "):
            RUN[kind](given(kind, **{name: value}))
    assert not [*tmp_path.iterdir()]


def test_what_is_above_zero_is_not_zero():
    for name in ("learning_rate", "spacing", "timeout_minutes"):
        kind = config.PrepareConfig if name == "spacing" else config.FinetuneConfig
        with pytest.raises(UsageError, match=f"{name} is 0; above 0 is needed"):
            check_numbers(given(kind, **{name: 0}))


@pytest.mark.parametrize("method", methods.available())
def test_every_number_of_every_method_has_limits(method: str):
    backbone = UNet(in_channels=1, classes=2, width=2)
    for setting in methods.settings(methods.load(method)):
        kind = type(setting.default)
        if kind not in (int, float):
            continue
        assert setting.name in METHODS, f"{method}: {setting.name} has no line in jcl.limits"
        values = [METHODS[setting.name].least - 1] + ([math.nan, math.inf] if kind is float else [])
        for value in values:
            with pytest.raises(UsageError, match=f"{setting.name} is "):
                methods.build(method, backbone, {setting.name: kind(value) if math.isfinite(value) else value})
    assert torch.isfinite(next(backbone.parameters())).all()
