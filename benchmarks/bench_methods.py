"""What a pre-training step of each method costs: time, memory and parameters.

    python benchmarks/bench_methods.py [--size 64] [--batch 16] [--width 16] [--steps 20] [--smoke]

One process a method, one thread, float32. The time is the processor's, so that other work on the machine does not
count; the memory is how far the resident set rose, from before the network was built and after a step of a tiny one, to
its peak.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from measuring import memory, reset_peak, ways_to_run

from jcl import backbones, methods
from jcl.data.batches import SliceBatch
from jcl.parallel.allocator import keep_memory
from jcl.training.autotune import apply_execution
from jcl.training.optim import set_learning_rate, sgd


def make_step(name: str, size: int, batch: int, width: int) -> tuple[Any, Callable[[float], None]]:
    """The method, and a step of it at some share of a training."""
    torch.manual_seed(0)
    method: Any = methods.load(name)(backbones.load("unet")(in_channels=1, classes=2, width=width))
    method.to(memory_format=torch.channels_last)
    ways = ways_to_run("auto")
    apply_execution(method.backbone, ways.get("kernels", ways["float32"]), method=method)
    optimizer = sgd(method.parameters(), weight_decay=0.0)
    set_learning_rate(optimizer, method.learning_rate)
    images, volumes = torch.rand(batch, 1, size, size), torch.arange(batch) // 4
    data = SliceBatch(images=images, positions=torch.linspace(0.05, 1, batch), volumes=volumes)
    generator = torch.Generator().manual_seed(0)

    def step(share: float) -> None:
        losses = method(method.views(data, generator), data)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        method.after_step(share)

    return method, step


def measure(name: str, size: int, batch: int, width: int, steps: int) -> dict[str, float]:
    """Median milliseconds of a step in each phase of the method, MiB, and millions of parameters."""
    keep_memory()
    torch.set_num_threads(1)
    make_step(name, 64, 4, 4)[1](0.0)  # PyTorch loads what it needs
    before = reset_peak()
    method, step = make_step(name, size, batch, width)
    times: list[float] = []
    for phase in range(method.phases):
        share = phase / method.phases
        method.after_step(share)
        laps: list[float] = []
        for _ in range(steps + 2):
            begun = time.process_time()
            step(share)
            laps.append(1000 * (time.process_time() - begun))
        times.append(statistics.median(laps[2:]))
    trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
    return {
        "ms": statistics.mean(times),
        "MiB": memory() - before,
        "trained": trained / 1e6,
        "kept": sum(p.numel() for p in method.parameters()) / 1e6,
    }


def main() -> None:
    """A row a method, dearest last; `--one` is what it runs in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--smoke", action="store_true", help="one method, one step")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    settings = {key: getattr(given, key) for key in ("size", "batch", "width", "steps")}
    if given.one:
        print(json.dumps(measure(given.one, **settings)))
        return
    if given.smoke:
        settings |= {"batch": 4, "width": 4, "steps": 1}
    rows: dict[str, dict[str, float]] = {}
    for name in methods.available()[: 1 if given.smoke else None]:
        flags = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        command = [sys.executable, __file__, "--one", name, *flags]
        rows[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"{settings}, one thread, torch {torch.__version__}")
    print("| method | ms per step | MiB | parameters trained, M | kept, M |")
    print("|---|---|---|---|---|")
    for name, row in sorted(rows.items(), key=lambda item: item[1]["ms"]):
        print(f"| `{name}` | {row['ms']:.0f} | {row['MiB']:.0f} | {row['trained']:.1f} | {row['kept']:.1f} |")


if __name__ == "__main__":
    main()
