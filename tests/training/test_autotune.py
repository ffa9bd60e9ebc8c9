"""Precision, kernels and compilation: what is given is taken, what is left open is measured where the run is long."""

import functools
import re
import time

import pytest
import torch
from torch import nn

from jcl.errors import UsageError
from jcl.kernels.library import KernelError
from jcl.training import autotune as trial
from jcl.training.autotune import Execution, apply_execution, choose_execution
from support.effort import LONG
from support.onkernels import lanes, runs_on_kernels

CPU = torch.device("cpu")
FLOAT, HALF = Execution(torch.float32), Execution(torch.bfloat16)
COMPILED = Execution(torch.float32, compiled=True)
KERNELS = Execution(torch.float32, kernels=True)
HALF_KERNELS = Execution(torch.bfloat16, kernels=True)


@pytest.fixture(autouse=True)
def hardware(monkeypatch):
    """A CPU that multiplies bfloat16 fast in PyTorch, and compilers."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": True}, raising=False)
    monkeypatch.setattr(trial.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(trial, "load_library", lambda: None)
    monkeypatch.setattr(trial, "multiplies_bfloat16", lambda: True)
    monkeypatch.setattr(trial, "has_fast_bfloat16", lambda: False)


@pytest.fixture
def tiles(monkeypatch):
    """A CPU with tiles for bfloat16."""
    monkeypatch.setattr(trial, "has_fast_bfloat16", lambda: True)


def steps_that_take(milliseconds: dict[Execution, float], tried: list[Execution] | None = None):
    def make(way: Execution):
        if tried is not None:
            tried.append(way)
        return lambda: time.sleep(milliseconds[way] / 1000)

    return make


def choose(milliseconds, tried=None, make=None, **settings):
    usual = {"precision": "auto", "compile": "off", "kernels": "off", "steps": 1000, "device": CPU}
    return choose_execution(make or steps_that_take(milliseconds, tried), **{**usual, **settings})


def told(words: str, way: str) -> int:
    """The milliseconds that are said of a way; a busy machine adds to them."""
    found = re.search(rf"(?:^|, ){way} (\d+) ms", words)
    assert found, words
    return int(found[1])


def test_the_faster_precision_is_taken_and_told():
    way, words = choose({FLOAT: 12, HALF: 4})
    assert way == HALF
    assert told(words, "float32") >= 12
    assert choose({FLOAT: 4, HALF: 12})[0] == FLOAT


@pytest.mark.parametrize(("kernels", "plain"), [("auto", KERNELS), ("off", FLOAT)])
def test_bfloat16_without_tiles_is_taken_where_it_was_measured_faster_and_not_untried(monkeypatch, kernels, plain):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert choose({}, kernels=kernels, steps=100)[0] == plain
    assert choose({FLOAT: 12, KERNELS: 12, HALF: 4}, kernels=kernels)[0] == HALF
    assert choose({FLOAT: 4, KERNELS: 4, HALF: 12}, kernels=kernels)[0] == FLOAT


def test_what_is_hardly_faster_is_not_worth_a_change():
    assert choose({FLOAT: 100, HALF: 99})[0] == FLOAT


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
        ({"recorded": {"precision": "float32", "kernels": True}, "kernels": "auto"}, KERNELS),
        ({"recorded": {"precision": "float32"}, "kernels": "auto"}, FLOAT),
        ({"precision": "float32", "kernels": "on"}, KERNELS),
        ({"precision": "auto", "kernels": "on"}, KERNELS),
        ({"precision": "float32", "kernels": "auto", "steps": 100}, KERNELS),
        ({"precision": "auto", "kernels": "auto", "steps": 100}, HALF),
        ({"precision": "bfloat16", "kernels": "auto"}, HALF),
        ({"precision": "bfloat16", "kernels": "on"}, HALF_KERNELS),
        ({"recorded": {"precision": "bfloat16", "kernels": True}, "kernels": "auto"}, HALF_KERNELS),
        ({"precision": "float32", "kernels": "auto", "compile": "on"}, COMPILED),
        ({"deterministic": True, "kernels": "auto"}, KERNELS),
    ],
)
def test_nothing_is_tried_where_it_is_given_recorded_short_or_deterministic(settings, wanted):
    tried: list[Execution] = []
    assert choose({}, tried, **settings)[0] == wanted
    assert not tried


def test_kernels_are_measured_beside_the_plain_way_and_bfloat16():
    assert choose({FLOAT: 12, KERNELS: 4, HALF: 8}, kernels="auto")[0] == KERNELS
    assert choose({FLOAT: 4, KERNELS: 12, HALF: 8}, kernels="auto")[0] == FLOAT
    way, words = choose({FLOAT: 12, KERNELS: 8, HALF: 4}, kernels="auto")
    assert way == HALF
    assert told(words, "float32 with kernels") >= 8
    tried: list[Execution] = []
    assert choose({FLOAT: 12, KERNELS: 4}, tried, kernels="auto", precision="float32")[0] == KERNELS
    assert tried == [KERNELS, FLOAT]


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"steps": 100}, HALF_KERNELS),
        ({"precision": "bfloat16", "steps": 100}, HALF_KERNELS),
        ({"precision": "float32", "steps": 100}, KERNELS),
        ({"kernels": "off", "steps": 100}, HALF),
        ({"precision": "auto", "kernels": "on"}, KERNELS),
        ({"precision": "bfloat16", "compile": "on"}, Execution(torch.bfloat16, compiled=True)),
        ({"deterministic": True}, KERNELS),
    ],
)
def test_with_tiles_for_bfloat16_what_is_given_is_taken(settings, wanted):
    tried: list[Execution] = []
    assert choose({}, tried, **{"kernels": "auto", **settings})[0] == wanted
    assert not tried


@pytest.mark.usefixtures("tiles")
def test_with_tiles_for_bfloat16_all_ways_are_measured():
    tried: list[Execution] = []
    times = {FLOAT: 12, HALF: 8, KERNELS: 6, HALF_KERNELS: 3}
    way, words = choose(times, tried, kernels="auto")
    assert way == HALF_KERNELS
    assert tried == list(reversed(times))
    assert told(words, "bfloat16 with kernels") >= 3
    assert choose({**times, HALF_KERNELS: 12}, kernels="auto")[0] == KERNELS
    tried.clear()
    assert choose(times, tried, kernels="auto", precision="bfloat16")[0] == HALF_KERNELS
    assert tried == [HALF_KERNELS, HALF]
    tried.clear()
    assert choose(times, tried, kernels="auto", precision="float32")[0] == KERNELS
    assert tried == [KERNELS, FLOAT]


def test_what_a_gpu_loads_at_its_first_step_does_not_count(monkeypatch):
    monkeypatch.setattr(trial, "BRIEF_SECONDS", 0.01)
    monkeypatch.setattr(trial, "synchronize", lambda device: None)
    seconds = {HALF: [0.2, *[0.002] * trial.ROUNDS], FLOAT: [0.01] * (1 + trial.ROUNDS)}

    def make(way: Execution):
        return lambda: time.sleep(seconds[way].pop(0))

    way, _ = trial._try(make, [FLOAT, HALF], compile="off", steps=1000, device=torch.device("cuda"))
    assert way == HALF


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize(
    ("gigabytes", "wanted"),
    [(None, [HALF_KERNELS, KERNELS, HALF, FLOAT]), (23, [HALF_KERNELS, KERNELS, HALF, FLOAT]),
     (16, [HALF_KERNELS, KERNELS]), (8, [HALF_KERNELS]), (2, [HALF_KERNELS])],
)  # fmt: skip
def test_ways_for_which_there_is_no_memory_are_left_out_and_named(monkeypatch, gigabytes, wanted):
    """What a step took at 512 x 512 pixels, in GB, on top of the 1 GB that the process had."""
    takes = {HALF_KERNELS: 5.6, KERNELS: 10.8, HALF: 9.0, FLOAT: 18.0}
    peak = [1.0]

    def make(way: Execution):
        return lambda: peak.__setitem__(0, max(peak[0], 1 + takes[way]))

    monkeypatch.setattr(trial, "peak_memory", lambda: round(1e9 * peak[0]))
    monkeypatch.setattr(trial, "memory_limit", lambda: gigabytes and round(1e9 * gigabytes))
    _, words = choose({}, make=make, kernels="auto")
    assert peak[0] == 1 + max(takes[way] for way in wanted)
    assert ("float32, bfloat16, float32 with kernels not tried: more memory than there is" in words) == (
        gigabytes in (2, 8)
    )
    assert ("not tried" in words) == (len(wanted) < 4)


@pytest.mark.usefixtures("tiles")
def test_a_way_whose_first_step_takes_far_too_long_is_not_measured_again(monkeypatch):
    monkeypatch.setattr(trial, "BRIEF_SECONDS", 0.05)
    tried: list[Execution] = []
    times = {FLOAT: 150, HALF: 60, KERNELS: 30, HALF_KERNELS: 20}

    def make(way: Execution):
        return lambda: (tried.append(way), time.sleep(times[way] / 1000))

    way, words = choose(times, make=make, kernels="auto")
    assert way == HALF_KERNELS
    assert tried.count(FLOAT) == 1
    assert tried.count(HALF) == tried.count(HALF_KERNELS) == 1 + trial.ROUNDS
    assert told(words, "float32") >= 150


def test_tiles_that_the_system_keeps_back_are_told(monkeypatch):
    monkeypatch.setattr(trial, "multiplies_bfloat16", lambda: False)
    with pytest.raises(UsageError, match="kernels are on, but this system does not let a program multiply bfloat16"):
        choose({}, kernels="on", precision="bfloat16")
    assert choose({}, kernels="auto", precision="bfloat16", steps=100)[0] == HALF


def test_kernels_that_cannot_be_had_are_left_or_told(monkeypatch):
    def none():
        raise KernelError("no C compiler here")

    for settings in ({"compile": "on"}, {"device": torch.device("cuda")}):
        with pytest.raises(UsageError, match="kernels are on, but they are for a CPU"):
            choose({}, **{"precision": "float32", **settings}, kernels="on")
    monkeypatch.setattr(trial, "load_library", none)
    assert choose({FLOAT: 4, HALF: 12}, kernels="auto")[0] == FLOAT
    assert choose({}, kernels="auto", precision="float32", steps=100)[0] == FLOAT
    with pytest.raises(UsageError, match="kernels are on, but no C compiler here"):
        choose({}, kernels="on")
    with pytest.raises(UsageError, match="auto, on or off"):
        choose({}, kernels="yes")


def test_compilation_is_tried_for_long_runs_alone_and_has_to_pay():
    fast = {FLOAT: 10, HALF: 30, COMPILED: 2}
    assert choose(fast, compile="auto", steps=1000)[0] == FLOAT  # ten seconds ahead
    assert choose(fast, compile="auto", steps=1_000_000)[0] == COMPILED
    assert choose({**fast, COMPILED: 12}, compile="auto", steps=1_000_000)[0] == FLOAT


def test_its_own_time_counts(monkeypatch):
    monkeypatch.setattr(trial, "COMPILED_FROM_SECONDS", 0.0)
    monkeypatch.setattr(trial, "TRIED_FROM", 1)
    calls: list[int] = []

    def make(way: Execution):
        def step() -> None:
            if way.compiled and not calls:
                calls.append(1)
                time.sleep(1.0)
            time.sleep(0.02 if way.compiled else 0.06)

        return step

    settings = {"precision": "float32", "compile": "auto", "kernels": "off", "device": CPU}
    assert choose_execution(make, steps=15, **settings)[0] == FLOAT
    calls.clear()
    assert choose_execution(make, steps=100_000, **settings)[0] == COMPILED


def test_a_compilation_that_fails_is_told_and_left():
    def make(way: Execution):
        def step() -> None:
            if way.compiled:
                raise RuntimeError("no")
            time.sleep(0.01)

        return step

    way, words = choose_execution(make, precision="float32", compile="auto", kernels="off", steps=1_000_000, device=CPU)
    assert way == FLOAT
    assert "not compiled (RuntimeError: no)" in words


def test_several_processes_compile_only_when_told(monkeypatch):
    monkeypatch.setattr(trial, "world_size", lambda: 2)
    monkeypatch.setattr(trial, "_longest", lambda seconds: seconds)
    tried: list[Execution] = []
    way, words = choose({FLOAT: 10, COMPILED: 2}, tried, precision="float32", compile="auto", steps=1_000_000)
    assert way == FLOAT
    assert COMPILED not in tried
    assert "not tried in several processes" in words


def test_a_trial_draws_nothing_from_the_training():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    choose(dict.fromkeys([FLOAT, HALF], 0), make=lambda way: lambda: torch.rand(7))
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
@pytest.mark.parametrize("backend", ["aot_eager", *["inductor"] * LONG])
def test_compiled_networks_compute_the_same_under_the_same_names(monkeypatch, backend):
    """PyTorch's own compiler takes half a minute; the other one follows a network as it does, and stops there."""
    monkeypatch.undo()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    net, x = Tiny(), torch.rand(2, 1, 8, 8)
    wanted, names = net.encode(x), list(net.state_dict())
    apply_execution(net, COMPILED)
    assert torch.allclose(net.encode(x), wanted, atol=1e-6)
    assert list(net.state_dict()) == names


def test_kernels_are_for_what_holds_the_backbone_too(monkeypatch):
    """A method's teacher, say, which is a network beside the backbone."""
    monkeypatch.undo()
    width = lanes()
    method = nn.ModuleDict({name: nn.Sequential(nn.Conv2d(width, width, 3, padding=1)) for name in ("net", "teacher")})
    apply_execution(method["net"], KERNELS, method=method)
    assert all(runs_on_kernels(layer[0]) for layer in method.values())
    apply_execution(other := nn.Sequential(nn.Conv2d(width, width, 3, padding=1)), KERNELS)
    assert runs_on_kernels(other[0])
