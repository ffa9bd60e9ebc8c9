"""How a training is to run: precision, kernels and compilation, given or found by a short measured trial."""

import math
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn

from jcl.distributed.comm import is_main_process, world_size
from jcl.distributed.device import kept_generators, may_gain_from_bfloat16, resolve_precision, synchronize
from jcl.errors import UsageError
from jcl.kernels.exchange import use_kernels
from jcl.kernels.library import KernelError, has_fast_bfloat16, load_library, multiplies_bfloat16, say_without
from jcl.parallel.machine import memory_limit, peak_memory
from jcl.parallel.progress import at_work
from jcl.training.activation_checkpointing import recompute_activations

__all__ = ["Execution", "apply_execution", "choose_execution"]

TRIED_FROM = 500
"""Steps below which nothing is tried: the trial would cost more than it can gain."""

COMPILED_FROM_SECONDS = 1800.0
"""Length of the run that is ahead, from which compiling is tried; it takes about a minute."""

MARGIN = 0.95
"""A way has to take less than this share of the plainer one's time: what is nearly as fast is not worth a change."""

TIMES_THE_MEMORY = 2.0
"""What the next plainer way may take of the memory, as a multiple of what the way before it took."""

HOPELESS = 4.0
"""A way whose first step took so many times the fastest's is not measured again: it can take a minute a step."""

BRIEF_SECONDS = 2.0
"""Below which a first step says nothing, since what is done once takes most of it."""

ROUNDS = 3
MOST_SECONDS = 30.0


@dataclass(frozen=True)
class Execution:
    """How the steps of a training are computed."""

    precision: torch.dtype
    compiled: bool = False
    kernels: bool = False

    def __str__(self) -> str:
        words = [str(self.precision).removeprefix("torch.")]
        return " ".join([*words, *["with kernels"] * self.kernels, *["compiled"] * self.compiled])

    def record(self) -> dict[str, Any]:
        """As `run.json` has it."""
        return {
            "precision": str(self.precision).removeprefix("torch."),
            "compiled": self.compiled,
            "kernels": self.kernels,
        }


Step = Callable[[], Any]


def choose_execution(
    make: Callable[[Execution], Step],
    *,
    precision: str,
    compile: str,
    kernels: str,
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
        kernels: `auto`, `on` or `off` (see `jcl.kernels`); on a CPU, not compiled again. `auto` takes them in bfloat16
            where the processor has tiles for it (AMX).
        steps: of the run.
        device: where it runs.
        recorded: `run.json` of the run that goes on.
        deterministic: measure nothing, since a measurement is not the same each time: float32, not compiled.

    Raises:
        UsageError: an unknown word; compilation or kernels are asked for and there is no compiler, or do not go with
            the rest.
    """
    for name, word in (("compile", compile), ("kernels", kernels)):
        if word not in ("auto", "on", "off"):
            raise UsageError(f"{name} is {word!r}; it can be auto, on or off")
    if compile == "on" and not _can_compile(device):
        raise UsageError("compile is on, but there is no C++ compiler here (g++ or clang++); give --compile off")
    wanted = "float32" if precision == "auto" and (deterministic or kernels == "on") else precision
    usual = resolve_precision(wanted, device)
    if recorded is not None and "precision" in recorded:
        kept = usual if precision != "auto" else getattr(torch, recorded["precision"])
        return Execution(kept, bool(recorded.get("compiled", False)), bool(recorded.get("kernels", False))), "as before"
    fitting = _fitting_kernels(kernels, precision=wanted, compile=compile, device=device)
    first = Execution(usual, compile == "on", usual in fitting)
    both = wanted == "auto" and may_gain_from_bfloat16(device)
    ways = _ways(first, fitting, types=[torch.float32, torch.bfloat16] if both else [usual], kernels=kernels)
    if deterministic or steps < TRIED_FROM or (len(ways) == 1 and compile != "auto"):
        return first, "as given" if precision != "auto" else "as the hardware suggests"
    with kept_generators(device), at_work("choose how to compute") if is_main_process() else nullcontext():
        return _try(make, ways, compile=compile, steps=steps, device=device)


def apply_execution(
    backbone: nn.Module, execution: Execution, *, method: nn.Module | None = None, recompute: bool = False
) -> None:
    """Make a backbone run in the given way; names of weights stay as they are.

    Args:
        backbone: see `jcl.backbones.Backbone`.
        execution: whether it runs on kernels, and whether PyTorch compiles it; precision is the caller's (see
            `jcl.distributed.device.autocast`).
        method: what holds the backbone, and other networks that are to run on kernels too.
        recompute: see `jcl.training.activation_checkpointing`.

    Raises:
        KernelError: the kernels cannot be had here.
    """
    if execution.kernels:
        use_kernels(method or backbone)
    if recompute:
        recompute_activations(backbone)
    if not execution.compiled:
        return
    for name in ("encode", "decode", "forward"):
        setattr(backbone, name, torch.compile(getattr(backbone, name)))


def _ways(first: Execution, fitting: set[torch.dtype], *, types: list[torch.dtype], kernels: str) -> list[Execution]:
    """What `auto` leaves open, the plainest first."""
    plain = [Execution(each, first.compiled) for each in types if kernels != "on" or each not in fitting]
    # float32 on kernels may beat bfloat16 without, so they are tried where the hardware suggests bfloat16, too
    return plain + [Execution(each, kernels=True) for each in (torch.float32, torch.bfloat16) if each in fitting]


def _try(
    make: Callable[[Execution], Step],
    ways: list[Execution],
    *,
    compile: str,
    steps: int,
    device: torch.device,
) -> tuple[Execution, str]:
    steps_of, first = _warm_up(make, ways, device)
    # a GPU's first step loads libraries, and says nothing
    hopeless = max(HOPELESS * min(first.values()), BRIEF_SECONDS) if device.type == "cpu" else math.inf
    timed = {**first, **_time({way: step for way, step in steps_of.items() if first[way] <= hopeless}, device)}
    best, *others = timed
    for way in others:
        best = way if timed[way] < MARGIN * timed[best] else best
    words = ", ".join(f"{way} {seconds * 1000:.0f} ms" for way, seconds in timed.items()) + " a step"
    if left_out := [str(way) for way in ways if way not in timed]:
        words += f"; {', '.join(left_out)} not tried: more memory than there is"
    ahead = steps * timed[best]
    if compile != "auto" or device.type == "mps" or ahead < COMPILED_FROM_SECONDS or not _can_compile(device):
        return best, words
    if world_size() > 1:
        # should it fail in one alone, that one would go on while the others wait for it in the middle of a step
        return best, f"{words}; compiling is not tried in several processes"
    compiled = Execution(best.precision, compiled=True)
    began = time.perf_counter()
    step = make(compiled)
    try:
        step()
    except Exception as error:  # compilation is only tried: whatever it stumbles over, the run goes without it
        why = next(iter(str(error).strip().splitlines()), "")
        return best, f"{words}; not compiled ({type(error).__name__}: {why[:200]})"
    spent = _longest(time.perf_counter() - began)
    step()
    each = _time({compiled: step}, device)[compiled]
    pays = spent + steps * each < MARGIN * ahead
    return compiled if pays else best, f"{words}; compiled {each * 1000:.0f} ms after {spent:.0f} s"


def _warm_up(
    make: Callable[[Execution], Step], ways: list[Execution], device: torch.device
) -> tuple[dict[Execution, Step], dict[Execution, float]]:
    """The step of each way that the memory has room for, and the seconds that it took first; the plainest way first.

    The plainer a way, the more it keeps for the gradient. So the last is taken first, and where twice of what it took
    is more than there is, the plainer ones are left out: at 512 x 512 pixels they take three times as much.
    """
    before, made, first = peak_memory() or 0, dict[Execution, Step](), dict[Execution, float]()
    for way in reversed(ways):
        taken = (peak_memory() or 0) - before
        room = (memory_limit() or math.inf) / world_size() - before
        if made and device.type == "cpu" and _longest(float(TIMES_THE_MEMORY * taken > room)) > 0:
            break
        made[way] = make(way)
        first[way] = _longest(_seconds(made[way], device))
    return dict(reversed(made.items())), dict(reversed(first.items()))


def _time(steps: Mapping[Execution, Step], device: torch.device) -> dict[Execution, float]:
    """Seconds of a step each way: the fastest of a few, taken in turns."""
    began = time.perf_counter()
    seconds = {way: float("inf") for way in steps}
    for _ in range(ROUNDS):
        for way, step in steps.items():
            seconds[way] = min(seconds[way], _seconds(step, device))
        if _longest(time.perf_counter() - began) > MOST_SECONDS:
            break
    return {way: _longest(value) for way, value in seconds.items()}


def _seconds(step: Step, device: torch.device) -> float:
    start = time.perf_counter()
    step()
    synchronize(device)
    return time.perf_counter() - start


def _longest(seconds: float) -> float:
    """The largest over all processes, so that all decide alike."""
    if world_size() == 1:
        return seconds
    shared = torch.tensor(seconds, dtype=torch.float64)
    distributed.all_reduce(shared, op=distributed.ReduceOp.MAX)  # pyright: ignore[reportPrivateImportUsage]
    return float(shared)


def _fitting_kernels(kernels: str, *, precision: str, compile: str, device: torch.device) -> set[torch.dtype]:
    """The types for which the kernels are wanted and can be had, in all processes.

    Raises:
        UsageError: they are asked for, and cannot.
    """
    if kernels == "off":
        return set()
    reason = None
    if device.type != "cpu" or compile == "on":
        reason = "they are for a CPU, not compiled"
    else:
        try:
            load_library()
        except KernelError as error:
            reason = str(error)
            if kernels == "auto":
                say_without(error)
    if reason is None and precision == "bfloat16" and kernels == "on" and not multiplies_bfloat16():
        reason = "this system does not let a program multiply bfloat16 by the processor's tiles"
    if reason is not None and kernels == "on":
        raise UsageError(f"kernels are on, but {reason}; give --kernels off")
    if _longest(float(reason is not None)) > 0:
        return set()
    asked = precision == "bfloat16" and kernels == "on"
    slow = _longest(float(not (asked or has_fast_bfloat16()))) > 0
    fitting = {torch.float32: precision != "bfloat16", torch.bfloat16: precision != "float32" and not slow}
    return {each for each, fits in fitting.items() if fits}


def _can_compile(device: torch.device) -> bool:
    return device.type != "cpu" or bool(shutil.which("g++") or shutil.which("clang++"))
