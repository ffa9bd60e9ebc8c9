"""A whole fine-tuning step on small images, from augmentation to Adam. The usual way beside ours.

    python benchmarks/bench_finetune_step.py [--size 32] [--slices 32] [--json FILE] [--smoke]

*Theirs*: each image and its labels are augmented by themselves, float32 with channels first, PyTorch's plain Adam. Ours
is what `jcl finetune` does. Processes, turns and floor as in `bench_step.py`.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_views import draw
from measuring import device, entry, matrix_rate, measure, serve, ways_to_run, write_json
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from jcl import backbones
from jcl.augment.spatial import AffineRanges, random_affine, warp_with_labels
from jcl.distributed.device import autocast
from jcl.parallel.allocator import keep_memory
from jcl.training.autotune import Execution, apply_execution
from jcl.training.optim import adam, set_learning_rate

CLASSES = 4
GOAL = 2.5


def labelled(size: int, count: int) -> tuple[Tensor, Tensor]:
    """Smooth random images, and labels that follow their brightness."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 1, max(2, size // 8), max(2, size // 8), generator=generator)
    images = F.interpolate(coarse, size=size, mode="bilinear")
    return images, (images[:, 0] * CLASSES).long().clamp(max=CLASSES - 1)


def build(width: int) -> nn.Module:
    torch.manual_seed(0)
    return backbones.load("unet")(in_channels=1, classes=CLASSES, width=width)


def our_step(size: int, count: int, width: int, way: Execution) -> Callable[[], object]:
    """A step as `jcl finetune` does it."""
    keep_memory()
    network = build(width).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    apply_execution(network, way)
    optimizer, generator = adam(network.parameters()), torch.Generator().manual_seed(0)
    set_learning_rate(optimizer, 5e-4)
    images, labels = labelled(size, count)

    def step() -> None:
        matrices = random_affine(len(images), AffineRanges(), generator=generator)
        warped, moved = warp_with_labels(images, labels, matrices)
        with autocast(torch.device("cpu"), way.precision):
            logits = network(warped.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), moved)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def augmented(array: np.ndarray, drawn: tuple[float, float, float, float], order: int) -> np.ndarray:
    """Rotation, then scaling, then translation, each of them resampled."""
    angle, zoom, x, y = drawn
    centre = (np.array(array.shape) - 1) / 2
    turned = ndimage.rotate(array, angle, reshape=False, order=order)
    scaled = ndimage.affine_transform(turned, np.eye(2) / zoom, centre - centre / zoom, order=order)
    return ndimage.shift(scaled, (y * array.shape[0], x * array.shape[1]), order=order)


def their_step(size: int, count: int, width: int) -> Callable[[], object]:
    """A step as programs usually do it."""
    network, random = build(width), np.random.default_rng(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-4)
    images, labels = (array.numpy() for array in labelled(size, count))

    def step() -> None:
        drawn = [draw(random) for _ in images]
        warped = [augmented(image, d, 1) for image, d in zip(images[:, 0], drawn, strict=True)]
        moved = [augmented(label, d, 0) for label, d in zip(labels, drawn, strict=True)]
        logits = network(torch.from_numpy(np.stack(warped))[:, None])
        loss = F.cross_entropy(logits, torch.from_numpy(np.stack(moved)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def operations(size: int, count: int, width: int) -> float:
    """Multiplications and additions of a step, counted on two slices."""
    images, labels = labelled(size, 2)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(build(width)(images), labels).backward()
    return counter.get_total_flops() * count / 2


def options_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--slices", type=int, default=32)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9, help="steps of each that count")
    parser.add_argument("--ways", default="auto", help="float32,kernels,bfloat16 (auto: what the hardware does well)")
    parser.add_argument("--processor-time", action="store_true", help="for a busy machine; with one thread")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--smoke", action="store_true", help="a small network, once: only whether it runs")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a child's variant
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    given = options_of()
    if given.smoke:
        given.slices, given.width, given.rounds = 2, 4, 1
    size = (given.size, given.slices, given.width)
    if given.one:
        step = their_step(*size) if given.one == "theirs" else our_step(*size, ways_to_run(given.one)[given.one])
        serve(step, processor_time=given.processor_time)
        return
    shared = [f"--{name}={getattr(given, name)}" for name in ("size", "slices", "width")]
    shared += ["--processor-time"] if given.processor_time else []
    ways = ways_to_run(given.ways)
    variants = {name: ["--one", name, *shared] for name in ("theirs", *ways)}
    took = measure(__file__, variants, rounds=given.rounds, together=True)
    needed = operations(*size)
    print(f"{device()}\n{needed / 1e9:.1f} GFLOP a step\n")
    print("| variant | ms | ratio | floor, ms | peak MiB |\n|---|---|---|---|---|")
    results: list[dict[str, Any]] = []
    for name, measured in took.items():
        precision = ways[name].precision if name in ways else torch.float32
        floor = 1000 * needed / matrix_rate(precision, processor_time=given.processor_time)
        theirs, ours = took["theirs"]["ms"], measured["ms"]
        print(f"| {name} | {ours:.1f} | {theirs / ours:.2f} | {floor:.1f} | {measured['MiB']:.0f} |")
        if name != "theirs":
            title = f"fine-tuning step, {given.slices} slices of {given.size} x {given.size}, {ways[name]}"
            results.append(entry("6", title, theirs, ours, floor, GOAL))
    write_json(given.json, results)


if __name__ == "__main__":
    main()
