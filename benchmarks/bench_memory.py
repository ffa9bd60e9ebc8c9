"""Peak memory of a whole pre-training step: plain, with activations computed again, and in parts that accumulate.

    python benchmarks/bench_memory.py [--sizes 128 256] [--json FILE] [--smoke]

16 slices per step, U-Net of width 32, the defaults of JCL, as `jcl pretrain` runs it. Each way runs in a process of its
own; what counts is how far its resident memory rises above what it was before, after a step of a tiny network, with
which PyTorch has loaded what it needs. `--accumulate 4` computes the gradient of 4 slices at a time, each part with
contrasts of its own, so its result is not that of the others. The floor is what no way can do without: weights, their
gradients and their momentum.

The second step is the one that counts: in the first there is no momentum yet. On two cores that multiply float32 alone
a size of 128 takes a minute, 256 four minutes, 512 about twelve (and 6 GiB or more).
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measuring import device, memory, reset_peak, ways_to_run, write_json

from jcl import backbones, methods
from jcl.data.batches import SliceBatch
from jcl.distributed.device import autocast
from jcl.parallel.allocator import keep_memory
from jcl.training.autotune import apply_execution
from jcl.training.optim import set_learning_rate, sgd

WAYS = {
    "plain": (False, 1),
    "--recompute": (True, 1),
    "--accumulate 4": (False, 4),
    "--recompute --accumulate 4": (True, 4),
}
"""Whether blocks are computed again, and the parts of a step, by the options of `jcl pretrain`."""


def batch_of(size: int, count: int) -> SliceBatch:
    """Random slices of some volumes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 1, size, size, generator=generator)
    return SliceBatch(images=images, positions=torch.linspace(0.05, 1, count), volumes=torch.arange(count) // 4)


def make_step(way: str, run: str, size: int, count: int, width: int) -> tuple[Callable[[], None], int]:
    """A step as `jcl pretrain` does it, and the number of weights that it trains."""
    recompute, parts = WAYS[way]
    execution = ways_to_run(run)[run]
    torch.manual_seed(0)
    method: Any = methods.load("jcl")(backbones.load("unet")(in_channels=1, classes=2, width=width))
    method.to(memory_format=torch.channels_last)
    apply_execution(method.backbone, execution, method=method, recompute=recompute)
    optimizer, generator = sgd(method.parameters(), weight_decay=1e-5), torch.Generator().manual_seed(0)
    set_learning_rate(optimizer, 0.001)
    batch = batch_of(size, count // parts)

    def step() -> None:
        optimizer.zero_grad()
        for _ in range(parts):
            views = method.views(batch, generator)
            with autocast(torch.device("cpu"), execution.precision):
                losses = method(views, batch)
            (losses["loss"] / parts).backward()
        optimizer.step()
        method.after_step(0.0)

    return step, sum(weights.numel() for weights in method.parameters() if weights.requires_grad)


def measure(way: str, run: str, size: int, count: int, width: int) -> dict[str, float]:
    """In a child: milliseconds of the second step, MiB above the start at its peak, and MiB of the weights."""
    keep_memory()
    make_step(way, run, 64, 4, 4)[0]()
    before = reset_peak()
    step, weights = make_step(way, run, size, count, width)
    step()
    begun = time.perf_counter()
    step()
    return {"ms": 1000 * (time.perf_counter() - begun), "MiB": memory() - before, "weights": 4 * weights / 2**20}


def measure_apart(way: str, run: str, given: argparse.Namespace, size: int) -> dict[str, float]:
    """`measure` in a process of its own."""
    shared = ["--slices", str(given.slices), "--width", str(given.width)]
    command = [sys.executable, __file__, f"--one={way}", "--run", run, "--sizes", str(size), *shared]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(given: argparse.Namespace, size: int, run: str) -> list[dict[str, Any]]:
    """All ways at one size: print a table, and return the rows of the results."""
    print(f"\n{given.slices} slices of {size} x {size}, {run}\n")
    print("| way | MiB above the start | of plain | ms | of plain |\n|---|---|---|---|---|", flush=True)
    rows: list[dict[str, Any]] = []
    plain: dict[str, float] = {}
    for way in WAYS:
        found = measure_apart(way, run, given, size)
        plain = plain or found
        share, longer = found["MiB"] / plain["MiB"], found["ms"] / plain["ms"]
        print(f"| {way} | {found['MiB']:.0f} | {share:.2f} | {found['ms']:.0f} | {longer:.2f} |", flush=True)
        what = f"peak of a step of {given.slices} slices of {size} x {size}, {run}, {way}"
        rows.append(
            {"row": "memory", "name": f"{what}, {longer:.2f} times the time" if way != "plain" else what,
             "theirs": plain["MiB"], "ours": found["MiB"], "floor": 3 * found["weights"], "unit": "MiB",
             "ratio": plain["MiB"] / found["MiB"], "goal": None}
        )  # fmt: skip
    return rows


def main() -> None:
    """Print a table for each size; `--one` is what it runs in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--slices", type=int, default=16)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--run", default="auto", help="float32, kernels or bfloat16 (auto: the last that suits)")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--smoke", action="store_true", help="a small size: only whether it runs")
    parser.add_argument("--one", choices=list(WAYS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.run, given.sizes[0], given.slices, given.width)))
        return
    if given.smoke:
        given.sizes, given.slices, given.width = [64], 8, 4
    print(device())
    run = list(ways_to_run(given.run))[-1]
    write_json(given.json, [row for size in given.sizes for row in compare(given, size, run)])


if __name__ == "__main__":
    main()
