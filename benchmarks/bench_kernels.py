"""3 x 3 convolutions of a U-Net's levels: PyTorch's layers beside the kernels, forward and both gradients.

    python benchmarks/bench_kernels.py [--slices 32] [--size 128] [--precision float32] [--json FILE] [--smoke]

GFLOP/s of the direct sum, so that the numbers of one row can be compared; in float32 the kernels do a quarter of its
products. In bfloat16 PyTorch's weights are rounded before, ours each time. The two take turns, and each number is that
of a median time.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from measuring import device, write_json
from torch import Tensor
from torch.nn import functional as F

from jcl.kernels.convolution import convolve
from jcl.parallel.allocator import keep_memory

PARTS = ("forward", "gradient of the input", "gradient of the weights")


def milliseconds(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median time of each, in turns, after one that does not count."""
    laps: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            begun = time.perf_counter()
            run()
            if number:
                laps[name].append(1000 * (time.perf_counter() - begun))
    return {name: statistics.median(these) for name, these in laps.items()}


def parts_of(convolution: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor) -> list[Callable[[], object]]:
    """The three things to do, each by itself."""
    y = convolution(x, weight)
    gradient = torch.randn(y.shape).to(y.dtype).to(memory_format=torch.channels_last)

    def forward() -> Tensor:
        with torch.no_grad():
            return convolution(x, weight)

    def backward(of: Tensor) -> Callable[[], object]:
        own = [t.detach().requires_grad_(t is of) for t in (x, weight)]
        output = convolution(*own)
        wanted = own[0] if of is x else own[1]
        return lambda: torch.autograd.grad(output, wanted, gradient, retain_graph=True)

    return [forward, backward(x), backward(weight)]


def measure(level: int, given: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each part of the second convolution of a level."""
    channels, size = given.width * 2**level, given.size // 2**level
    x = torch.randn(given.slices, channels, size, size).to(memory_format=torch.channels_last)
    x = x.to(getattr(torch, given.precision))
    weight = torch.randn(channels, channels, 3, 3).to(memory_format=torch.channels_last)
    work = 2 * 9 * channels**2 * given.slices * size**2 / 1e6
    plain = parts_of(lambda a, b: F.conv2d(a, b, padding=1), x, weight.to(x.dtype))
    kernels = parts_of(convolve, x, weight)
    rows: list[dict[str, Any]] = []
    for part, theirs, ours in zip(PARTS, plain, kernels, strict=True):
        took = milliseconds({"theirs": theirs, "ours": ours}, given.rounds)
        name = f"convolution of {channels} channels, {size} x {size}, {part}"
        rates = {"theirs": work / took["theirs"], "ours": work / took["ours"]}
        ratio = took["theirs"] / took["ours"]
        rows.append({"row": "kernels", "name": name, **rates, "floor": None, "unit": "GFLOP/s", "ratio": ratio})
    return rows


def main() -> None:
    """Print a row a level."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=32)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--smoke", action="store_true", help="small, once: only whether it runs")
    given = parser.parse_args()
    if given.smoke:
        given.slices, given.size, given.width, given.rounds = 2, 32, 16, 1
    keep_memory()
    print(f"{device()}; {given.slices} slices; GFLOP/s {', '.join(PARTS)}\n")
    print("| channels, pixels | PyTorch | kernels | times as fast |\n|---|---|---|---|")
    rows: list[dict[str, Any]] = []
    for level in range(5):
        found = measure(level, given)
        rows += found
        cells = [" / ".join(f"{row[key]:.0f}" for row in found) for key in ("theirs", "ours")]
        ratios = " / ".join(f"{row['ratio']:.1f}" for row in found)
        print(
            f"| {given.width * 2**level}, {given.size // 2**level} | {cells[0]} | {cells[1]} | {ratios} |", flush=True
        )
    write_json(given.json, rows)


if __name__ == "__main__":
    main()
