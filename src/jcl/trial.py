"""How a training is to run: precision and compilation, given or found by a short measured trial."""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn

from jcl.device import resolve_precision
from jcl.distributed import processes
from jcl.errors import UsageError
from jcl.recompute import recompute_activations

__all__ = ["Execution", "choose_execution", "run_as"]

TRIED_FROM = 500
"""Steps below which nothing is tried: the trial would cost more than it can gain."""

COMPILED_FROM_SECONDS = 1800.0
"""Length of the run that is ahead, from which compiling is tried; it takes about a minute."""

MARGIN = 0.95
"""A way has to take less than this share of the plainer one's time: what is nearly as fast is not worth a change."""

ROUNDS = 3
MOST_SECONDS = 30.0


@dataclass(frozen=True)
class Execution:
    """How the steps of a training are computed."""

    precision: torch.dtype
    compiled: bool = False

    def __str__(self) -> str:
        return str(self.precision).removeprefix("torch.") + (", compiled" if self.compiled else "")

    def record(self) -> dict[str, Any]:
        """As `run.json` has it."""
        return {"precision": str(self.precision).removeprefix("torch."), "compiled": self.compiled}


Step = Callable[[], Any]


def choose_execution(
    make: Callable[[Execution], Step],
    *,
    precision: str,
    compile: str,
    steps: int,
    device: torch.device,
    recorded: Mapping[str, Any] | None = None,
    deterministic: bool = False,
) -> tuple[Execution, str]:
    """The way to run, and a few words on why.

    What `auto` leaves open is measured on steps that change nothing of the training, unless the run is short. A run
    that goes on keeps what its `run.json` has recorded, since its result depends on it.

    Args:
        make: builds a training step on a copy of the network, run in the given way.
        precision: `auto`, `float32` or `bfloat16`.
        compile: `auto`, `on` or `off`.
        steps: of the run.
        device: where it runs.
        recorded: `run.json` of the run that goes on.
        deterministic: measure nothing, since a measurement is not the same each time: float32, not compiled.

    Raises:
        UsageError: an unknown word, or compilation is asked for and there is no compiler.
    """
    if compile not in ("auto", "on", "off"):
        raise UsageError(f"compile is {compile!r}; it can be auto, on or off")
    if compile == "on" and not _can_compile(device):
        raise UsageError("compile is on, but there is no C++ compiler here (g++ or clang++); give --compile off")
    usual = resolve_precision("float32" if deterministic and precision == "auto" else precision, device)
    if recorded is not None and "precision" in recorded:
        kept = usual if precision != "auto" else getattr(torch, recorded["precision"])
        return Execution(kept, bool(recorded.get("compiled", False))), "as before"
    if deterministic or steps < TRIED_FROM or (precision != "auto" and compile != "auto"):
        return Execution(usual, compile == "on"), "as given" if precision != "auto" else "as the hardware suggests"
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        return _try(make, Execution(usual), precision=precision, compile=compile, steps=steps, device=device)


def run_as(backbone: nn.Module, execution: Execution, *, recompute: bool = False) -> None:
    """Make a backbone run in the given way; names of weights stay as they are.

    Args:
        backbone: see `jcl.backbones.Backbone`.
        execution: whether PyTorch compiles it; precision is the caller's (see `jcl.device.autocast`).
        recompute: see `jcl.recompute`.
    """
    if recompute:
        recompute_activations(backbone)
    if not execution.compiled:
        return
    for name in ("encode", "decode", "forward"):
        setattr(backbone, name, torch.compile(getattr(backbone, name)))


def _try(
    make: Callable[[Execution], Step],
    usual: Execution,
    *,
    precision: str,
    compile: str,
    steps: int,
    device: torch.device,
) -> tuple[Execution, str]:
    ways = [usual] if precision != "auto" else [Execution(torch.float32)]
    if precision == "auto" and usual.precision != torch.float32:
        ways.append(usual)
    timed = _time({way: make(way) for way in ways}, device)
    best = ways[0]
    if len(ways) > 1 and timed[ways[1]] < MARGIN * timed[ways[0]]:
        best = ways[1]
    words = ", ".join(f"{way} {seconds * 1000:.0f} ms" for way, seconds in timed.items()) + " a step"
    if compile == "on":
        return Execution(best.precision, compiled=True), words
    ahead = steps * timed[best]
    if compile == "off" or ahead < COMPILED_FROM_SECONDS or not _can_compile(device):
        return best, words
    compiled = Execution(best.precision, compiled=True)
    began = time.perf_counter()
    step = make(compiled)
    try:
        step()
    except Exception as error:  # compilation is only tried: whatever it stumbles over, the run goes without it
        return best, f"{words}; not compiled ({type(error).__name__})"
    spent = _longest(time.perf_counter() - began)
    each = _time({compiled: step}, device)[compiled]
    pays = spent + steps * each < MARGIN * ahead
    return compiled if pays else best, f"{words}; compiled {each * 1000:.0f} ms after {spent:.0f} s"


def _time(steps: Mapping[Execution, Step], device: torch.device) -> dict[Execution, float]:
    """Seconds of a step each way: the fastest of a few, taken in turns, after one that does not count."""
    began = time.perf_counter()
    seconds = {way: float("inf") for way in steps}
    for number in range(ROUNDS + 1):
        for way, step in steps.items():
            start = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:
                seconds[way] = min(seconds[way], time.perf_counter() - start)
        if number and _longest(time.perf_counter() - began) > MOST_SECONDS:
            break
    return {way: _longest(value) for way, value in seconds.items()}


def _longest(seconds: float) -> float:
    """The largest over all processes, so that all decide alike."""
    if processes() == 1:
        return seconds
    shared = torch.tensor(seconds, dtype=torch.float64)
    distributed.all_reduce(shared, op=distributed.ReduceOp.MAX)  # pyright: ignore[reportPrivateImportUsage]
    return float(shared)


def _can_compile(device: torch.device) -> bool:
    return device.type == "cuda" or bool(shutil.which("g++") or shutil.which("clang++"))
