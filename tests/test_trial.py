"""Precision and compilation: what is given is taken, what is left open is measured where the run is long."""

import time

import pytest
import torch
from torch import nn

from jcl import trial
from jcl.errors import UsageError
from jcl.trial import Execution, choose_execution, run_as

CPU = torch.device("cpu")
FLOAT, HALF = Execution(torch.float32), Execution(torch.bfloat16)
COMPILED = Execution(torch.float32, compiled=True)


@pytest.fixture(autouse=True)
def hardware(monkeypatch):
    """A CPU that multiplies bfloat16, and a compiler."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(trial.shutil, "which", lambda name: f"/bin/{name}")


def steps_that_take(milliseconds: dict[Execution, float], tried: list[Execution] | None = None):
    def make(way: Execution):
        if tried is not None:
            tried.append(way)
        return lambda: time.sleep(milliseconds[way] / 1000)

    return make


def choose(milliseconds, tried=None, **settings):
    usual = {"precision": "auto", "compile": "off", "steps": 1000, "device": CPU}
    return choose_execution(steps_that_take(milliseconds, tried), **{**usual, **settings})


def test_the_faster_precision_is_taken_and_told():
    way, words = choose({FLOAT: 12, HALF: 4})
    assert way == HALF
    assert "float32 12 ms" in words or "float32 13 ms" in words
    assert choose({FLOAT: 4, HALF: 12})[0] == FLOAT


def test_what_is_hardly_faster_is_not_worth_a_change():
    assert choose({FLOAT: 20, HALF: 19.8})[0] == FLOAT


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"precision": "bfloat16", "compile": "off"}, HALF),
        ({"precision": "float32", "compile": "on"}, COMPILED),
        ({"steps": 100}, HALF),
        ({"deterministic": True}, FLOAT),
        ({"deterministic": True, "precision": "bfloat16"}, HALF),
        ({"recorded": {"precision": "float32", "compiled": True}}, COMPILED),
        ({"recorded": {"precision": "bfloat16"}, "deterministic": True}, HALF),
    ],
)
def test_nothing_is_tried_where_it_is_given_recorded_short_or_deterministic(settings, wanted):
    tried: list[Execution] = []
    assert choose({}, tried, **settings)[0] == wanted
    assert not tried


def test_compilation_is_tried_for_long_runs_alone_and_has_to_pay():
    fast = {FLOAT: 10, HALF: 30, COMPILED: 2}
    assert choose(fast, compile="auto", steps=1000)[0] == FLOAT  # ten seconds ahead
    assert choose(fast, compile="auto", steps=1_000_000)[0] == COMPILED
    assert choose({**fast, COMPILED: 12}, compile="auto", steps=1_000_000)[0] == FLOAT


def test_its_own_time_counts(monkeypatch):
    monkeypatch.setattr(trial, "COMPILED_FROM_SECONDS", 0.0)
    calls: list[int] = []

    def make(way: Execution):
        def step() -> None:
            if way.compiled and not calls:
                calls.append(1)
                time.sleep(1.0)
            time.sleep(0.001 if way.compiled else 0.002)

        return step

    settings = {"precision": "float32", "compile": "auto", "device": CPU}
    assert choose_execution(make, steps=500, **settings)[0] == FLOAT
    calls.clear()
    assert choose_execution(make, steps=100_000, **settings)[0] == COMPILED


def test_a_compilation_that_fails_is_told_and_left():
    def make(way: Execution):
        def step() -> None:
            if way.compiled:
                raise RuntimeError("no")
            time.sleep(0.01)

        return step

    way, words = choose_execution(make, precision="float32", compile="auto", steps=1_000_000, device=CPU)
    assert way == FLOAT
    assert "not compiled (RuntimeError)" in words


def test_a_trial_draws_nothing_from_the_training():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    choose_execution(lambda way: lambda: torch.rand(7), precision="auto", compile="off", steps=1000, device=CPU)
    assert torch.equal(torch.rand(3), wanted)


def test_unknown_words_and_no_compiler(monkeypatch):
    with pytest.raises(UsageError, match="auto, on or off"):
        choose({}, compile="yes")
    monkeypatch.setattr(trial.shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match="compiler"):
        choose({}, compile="on")
    assert choose({FLOAT: 10, HALF: 30}, compile="auto", steps=1_000_000)[0] == FLOAT


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 3)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).relu()

    decode = forward = encode


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler's own
def test_compiled_networks_compute_the_same_under_the_same_names(monkeypatch):
    monkeypatch.undo()
    net, x = Tiny(), torch.rand(2, 1, 8, 8)
    wanted, names = net.encode(x), list(net.state_dict())
    run_as(net, COMPILED)
    assert torch.allclose(net.encode(x), wanted, atol=1e-6)
    assert list(net.state_dict()) == names
