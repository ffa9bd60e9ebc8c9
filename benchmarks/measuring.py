"""What the benchmarks of whole steps share: steps in processes of their own, the rate of products, rows of results."""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jcl.distributed.device import may_gain_from_bfloat16
from jcl.kernels.exchange import have_kernels
from jcl.kernels.library import has_fast_bfloat16
from jcl.training.autotune import Execution

WARM = 2
"""Steps that do not count: memory that is kept is laid out in the first two."""


def memory(field: str = "VmHWM") -> float:
    """MiB of this process: the most that was ever resident (VmHWM), or what is resident now (VmRSS).

    Not what getrusage says, which a process has from the one that started it. Linux only.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def reset_peak() -> float:
    """MiB that are resident now; from here on the peak of memory counts anew."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def serve(step: Callable[[], object], *, processor_time: bool) -> None:
    """In a child: a step for every line of the input, and a line with its milliseconds, page faults and peak memory."""
    clock = time.process_time if processor_time else time.perf_counter
    for _ in sys.stdin:
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        begun = clock()
        step()
        took = 1000 * (clock() - begun)
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
        print(json.dumps({"ms": took, "MiB": memory(), "faults": faults}), flush=True)


class Child:
    """A process that does steps when it is asked to: with memory, and settings of memory, of its own."""

    def __init__(self, script: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        command, pipe = [sys.executable, script, *arguments], subprocess.PIPE
        variables = {**os.environ, **(environment or {})}
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=variables)

    def step(self) -> dict[str, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args}: ended with {self.process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def take_turns(children: Mapping[str, Child], rounds: int) -> dict[str, list[dict[str, float]]]:
    """What the steps of each child took, one of each a round, after those that warm up; then they end."""
    laps: dict[str, list[dict[str, float]]] = {name: [] for name in children}
    for number in range(WARM + rounds):
        for name, child in children.items():
            lap = child.step()
            if number >= WARM:
                laps[name].append(lap)
    for child in children.values():
        child.close()
    return laps


def measure(
    script: str, variants: Mapping[str, Sequence[str]], *, rounds: int, together: bool
) -> dict[str, dict[str, float]]:
    """Median milliseconds and peak MiB of each variant, after some steps that warm up.

    Args:
        script: path of the benchmark, which `serve`s with the arguments of a variant.
        variants: arguments by name.
        rounds: steps of each that count.
        together: the variants take turns, so that the machine is the same to all; else one ends before the next begins,
            which takes less memory.
    """
    laps: dict[str, list[dict[str, float]]] = {}
    for group in [list(variants)] if together else [[name] for name in variants]:
        laps |= take_turns({name: Child(script, variants[name]) for name in group}, rounds)
    return {
        name: {"ms": statistics.median(lap["ms"] for lap in these), "MiB": max(lap["MiB"] for lap in these)}
        for name, these in laps.items()
    }


def ways_to_run(asked: str) -> dict[str, Execution]:
    """Ways to compute a step by name: those asked for, with commas; `auto` is all that this machine can do well."""
    known = {
        "float32": Execution(torch.float32),
        "kernels": Execution(torch.float32, kernels=True),
        "bfloat16": Execution(torch.bfloat16),
        "bfloat16 with kernels": Execution(torch.bfloat16, kernels=True),
    }
    if asked != "auto":
        return {name: known[name] for name in asked.split(",")}
    if not have_kernels():
        del known["kernels"]
    if not (have_kernels() and has_fast_bfloat16()):
        del known["bfloat16 with kernels"]
    if not may_gain_from_bfloat16(torch.device("cpu")):
        known.pop("bfloat16")
    return known


def matrix_rate(precision: torch.dtype, *, size: int = 2048, processor_time: bool = False) -> float:
    """Operations a second of a product of two matrices of `size` squared."""
    clock = time.process_time if processor_time else time.perf_counter
    left, right = (torch.randn(size, size).to(precision) for _ in range(2))
    times: list[float] = []
    for _ in range(6):
        begun = clock()
        _: Tensor = left @ right
        times.append(clock() - begun)
    return 2 * size**3 / statistics.median(times[1:])


def device() -> str:
    """The processor, its widest instructions that PyTorch uses, and the threads."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        named = [line for line in information.read_text().splitlines() if line.startswith("model name")]
        model = named[0].split(":")[1].strip() if named else model
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{model}, {capability}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def entry(row: str, name: str, theirs: float, ours: float, floor: float, goal: float | None) -> dict[str, Any]:
    """A result in milliseconds, as `--json` writes it."""
    result = {"row": row, "name": name, "theirs": theirs, "ours": ours, "floor": floor, "unit": "ms"}
    return {**result, "ratio": theirs / ours, "goal": goal, "device": device()}


def write_json(path: Path | None, rows: list[dict[str, Any]]) -> None:
    """Write the results, if a file was asked for."""
    if path is not None:
        path.write_text(json.dumps(rows, indent=1) + "\n")
