"""A whole pre-training step of JCL: views, networks, losses, gradient, optimiser. The usual way beside ours.

    python benchmarks/bench_step.py [--sizes 128 256 512] [--json FILE] [--smoke]

16 slices, U-Net of width 32, the defaults of JCL. *Theirs* is written from the description of the authors' program:
each image is augmented by itself, each view goes through the encoder by itself, all four decoder blocks run though two
are used, the dense loss is a loop over positions, all in float32 with channels first. Ours is the public interface, as
`jcl pretrain` uses it. Both compute the same losses of the same views, which is checked first (batch statistics apart:
theirs are of one view each).

The variants run in processes of their own, since ours asks for memory in its own way, and take turns. The floor is the
arithmetic of our step, which has nothing in it that is not needed, at the rate of a large matrix product in the
same run; with kernels, whose tiles need a quarter of the products for the same sums, a step can be below it.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_dense_loss import loop
from bench_views import scipy_three_steps
from measuring import device, entry, matrix_rate, measure, serve, ways_to_run, write_json
from step_profile import print_profile
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from jcl import backbones, methods
from jcl.data.batches import SliceBatch
from jcl.distributed.device import autocast
from jcl.losses.contrastive import position_mask
from jcl.parallel.allocator import keep_memory
from jcl.training.autotune import Execution, apply_execution
from jcl.training.optim import set_learning_rate, sgd

GOALS = {128: ("2a", 4.0), 256: ("2b", 7.0), 512: ("2c", 12.0)}
"""Row of the list of wishes and how much faster ours should be, by size."""

ALONE = 512
"""Size from which the variants do not fit into memory together."""


def slices(size: int, count: int) -> SliceBatch:
    """Smooth random images."""
    generator = torch.Generator().manual_seed(0)
    images = F.interpolate(torch.rand(count, 1, size // 8, size // 8, generator=generator), size=size, mode="bilinear")
    return SliceBatch(images=images, positions=torch.linspace(0.05, 1, count), volumes=torch.arange(count) // 4)


def build(width: int) -> nn.Module:
    """JCL with its defaults."""
    torch.manual_seed(0)
    return methods.load("jcl")(backbones.load("unet")(in_channels=1, classes=2, width=width))


def our_step(size: int, count: int, width: int, way: Execution) -> Callable[[], object]:
    """A step as `jcl pretrain` does it."""
    keep_memory()
    method: Any = build(width).to(memory_format=torch.channels_last)
    apply_execution(method.backbone, way, method=method)
    optimizer, generator, batch = optimizer_of(method), torch.Generator().manual_seed(0), slices(size, count)

    def step() -> None:
        views = method.views(batch, generator)
        with autocast(torch.device("cpu"), way.precision):
            losses = method(views, batch)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        method.after_step(0.0)

    return step


def optimizer_of(method: nn.Module) -> torch.optim.Optimizer:
    optimizer = sgd(method.parameters(), weight_decay=1e-5)
    set_learning_rate(optimizer, 0.001)
    return optimizer


def their_views(images: Tensor, random: np.random.Generator) -> list[Tensor]:
    """The invariant pair, here as it is, and two augmented views of each slice, one slice after the other."""
    pair = [[scipy_three_steps(image, random) for image in images[:, 0].numpy()] for _ in range(2)]
    return [images, images, *(torch.from_numpy(np.stack(view))[:, None] for view in pair)]


def their_loss(method: Any, full: tuple[Tensor, ...], small: tuple[Tensor, ...], positions: Tensor) -> Tensor:
    """The losses from two views at full size and two shrunk: first those of pixels and features, then of images."""
    network = method.backbone
    pixels, images = (network.encode(view)[-1] for view in full)
    deepest: list[Tensor] = []
    decoded: list[Tensor] = []
    for view in small:
        *skips, x = network.encode(view)
        deepest.append(x)
        for number, block in enumerate(network.decoder, start=1):
            x = block(x, skips.pop())
            if number == method.blocks:
                decoded.append(x)
    positives = position_mask(positions.repeat(2), method.threshold).float()
    image_rows = torch.cat([method.auxiliary_instance(images), method.dominant_instance(decoded[1])])
    pixel_rows = torch.cat([method.auxiliary_pixel(pixels), method.dominant_pixel(decoded[0])])
    down = F.interpolate(pixels, size=deepest[0].shape[-2:], mode="bilinear")
    features = (deepest[0] - down).abs().mean()
    return loop(image_rows[:, :, None, None], positives) + 0.5 * loop(pixel_rows, positives) + features


def their_step(size: int, count: int, width: int) -> Callable[[], object]:
    """A step as the authors' program is described to do it."""
    method, batch, random = build(width), slices(size, count), np.random.default_rng(0)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.001, momentum=0.9, weight_decay=1e-5)

    def step() -> None:
        still, again, first, second = their_views(batch.images, random)
        small = tuple(F.avg_pool2d(view, 2**method.blocks) for view in (again, second))
        loss = their_loss(method, (still, first), small, batch.positions)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def check_that_both_compute_the_same() -> None:
    """The loss of the same views, where batch statistics play no part; float32 in another order, hence 1e-4."""
    method: Any = build(4).eval()
    batch = slices(128, 4)
    auxiliary, dominant = method.views(batch, torch.Generator().manual_seed(0))
    ours = method((auxiliary, dominant), batch)["loss"].item()
    theirs = their_loss(method, auxiliary.chunk(2), dominant.chunk(2), batch.positions).item()
    assert abs(ours - theirs) < 1e-4 * abs(theirs), (ours, theirs)


def operations(size: int, count: int, width: int) -> float:
    """Multiplications and additions of our step, counted on two slices: nearly all grow with their number."""
    method: Any = build(width)
    batch = slices(size, 2)
    views = method.views(batch, torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        method(views, batch)["loss"].backward()
    return counter.get_total_flops() * count / 2


def options_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--slices", type=int, default=16)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3, help="steps of each that count; at 512 a third of them")
    parser.add_argument("--ways", default="auto", help="float32,kernels,bfloat16 (auto: what the hardware does well)")
    parser.add_argument("--processor-time", action="store_true", help="for a busy machine; with one thread")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--smoke", action="store_true", help="a small size, once: only whether it runs")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # a child's variant and size
    return parser.parse_args()


def steps_of(given: argparse.Namespace, variant: str, size: int) -> Callable[[], object]:
    if variant == "theirs":
        return their_step(size, given.slices, given.width)
    return our_step(size, given.slices, given.width, ways_to_run(variant)[variant])


def compare(given: argparse.Namespace, size: int) -> list[dict[str, Any]]:
    """Time all variants at one size, print a table, and return the rows of the results."""
    shared = ["--slices", str(given.slices), "--width", str(given.width)]
    shared += ["--processor-time"] if given.processor_time else []
    ours = ways_to_run(given.ways)
    variants = {name: ["--one", name, str(size), *shared] for name in ("theirs", *ours)}
    rounds = max(1, given.rounds // 3) if size >= ALONE else given.rounds
    took = measure(__file__, variants, rounds=rounds, together=size < ALONE)
    row, goal = GOALS.get(size, ("2", None))
    needed = operations(size, given.slices, given.width)
    print(f"\n{size} x {size}, {given.slices} slices, {needed / 1e9:.0f} GFLOP a step\n")
    print("| variant | ms | ratio | floor, ms | ms / floor | peak MiB |\n|---|---|---|---|---|---|")
    results: list[dict[str, Any]] = []
    for name, measured in took.items():
        precision = ours[name].precision if name in ours else torch.float32
        floor = 1000 * needed / matrix_rate(precision, processor_time=given.processor_time)
        ratio = took["theirs"]["ms"] / measured["ms"]
        times = f"{measured['ms']:.0f} | {ratio:.2f} | {floor:.0f} | {measured['ms'] / floor:.1f}"
        print(f"| {name} | {times} | {measured['MiB']:.0f} |")
        if name != "theirs":
            title = f"pre-training step, {given.slices} slices of {size} x {size}, {ours[name]}"
            result = entry(row, title, took["theirs"]["ms"], measured["ms"], floor, goal)
            results.append({**result, "theirs_MiB": took["theirs"]["MiB"], "ours_MiB": measured["MiB"]})
    fastest = min(ours, key=lambda name: took[name]["ms"])
    print_profile(build(given.width), slices(size, given.slices), ours[fastest])
    return results


def main() -> None:
    """Print a table and a profile for each size."""
    given = options_of()
    if given.smoke:
        given.sizes, given.slices, given.width, given.rounds = [64], 2, 4, 1
    if given.one:
        variant, size = given.one
        serve(steps_of(given, variant, int(size)), processor_time=given.processor_time)
        return
    check_that_both_compute_the_same()
    print(device())
    write_json(given.json, [row for size in given.sizes for row in compare(given, size)])


if __name__ == "__main__":
    main()
