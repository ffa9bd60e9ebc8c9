"""A fine-tuning step with each semi-supervised technique, beside the plain step on the same labelled slices.

    python benchmarks/bench_semi_step.py [--size 64] [--slices 8] [--width 16] [--block 16 32 32] [--smoke]

As many slices without labels as with, by the recipe `strong`, on the kernels where they can be had. From augmentation
to the teacher's following, when the unlabelled slices count; *warm-up* is a step on labels alone. Each variant is a
process of its own, they take turns, and a row's ratio is to the plain step of the same run. With --block it is as many
blocks of these sides, by `unet3d`, and the techniques that take them.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from bench_finetune_step import CLASSES
from measuring import device, measure, serve, ways_to_run
from torch.nn import functional as F

from jcl import backbones, semi
from jcl.augment.batches import augment_batch
from jcl.augment.labelled import LabelledRanges
from jcl.config import FinetuneConfig
from jcl.data.batches import SliceBatch
from jcl.data.block_plan import plan_strides
from jcl.data.blocks import BlockBatch
from jcl.data.manifest import IGNORE
from jcl.distributed.device import channels_last
from jcl.losses.segmentation import dice_cross_entropy
from jcl.parallel.allocator import keep_memory
from jcl.stages.finetune import _loss, _losses, _ranges
from jcl.training.autotune import Execution, apply_execution
from jcl.training.averaging import averaged_copy, update_average
from jcl.training.optim import adam, set_learning_rate
from jcl.training.recipes import settle

Sides = tuple[int, int] | tuple[int, int, int]

PLAIN = "plain"
LOSS = partial(dice_cross_entropy, ignore=IGNORE)


def ranges() -> LabelledRanges:
    config = FinetuneConfig(store=Path("store"), init="none", out=Path("out"), recipe="strong")
    return _ranges(settle(config, None))


def build(sides: Sides, width: int) -> backbones.Backbone:
    torch.manual_seed(0)
    if len(sides) == 2:
        return backbones.load("unet")(in_channels=1, classes=CLASSES, width=width)
    strides = plan_strides((1.0, 1.0, 1.0), sides)
    return backbones.load("unet3d")(in_channels=1, classes=CLASSES, width=width, strides=strides)


def labelled(sides: Sides, count: int) -> SliceBatch:
    """Smooth random slices or blocks, and labels that follow their brightness."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 1, *(max(2, side // 8) for side in sides), generator=generator)
    images = F.interpolate(coarse, size=sides, mode="bilinear" if len(sides) == 2 else "trilinear")
    labels = (images[:, 0] * CLASSES).long().clamp(max=CLASSES - 1)
    kind = SliceBatch if len(sides) == 2 else BlockBatch
    return kind(images=images, labels=labels, positions=torch.ones(count), volumes=torch.arange(count))


def step_of(name: str, share: float, sides: Sides, count: int, width: int, way: Execution) -> Callable[[], object]:
    """A step of the plain fine-tuning or of a technique, after that share of the training."""
    keep_memory()
    network = build(sides, width)
    technique = None
    if name != PLAIN:
        supervision = semi.Supervision(loss=LOSS, ranges=ranges(), another=partial(build, sides, width))
        technique = semi.build(name, network, supervision, {})
    layout = channels_last(len(sides))
    model = (technique or network).to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    average = averaged_copy(network)
    apply_execution(network, way, method=model)
    optimizer = adam(parameter for parameter in model.parameters() if parameter.requires_grad)
    set_learning_rate(optimizer, 1e-3)
    generator, progress = torch.Generator().manual_seed(0), semi.Progress(int(100 * share), 100)
    batch, unlabelled = labelled(sides, count), replace(labelled(sides, count), labels=None)
    recipe = ranges()

    def step() -> None:
        if technique is None:
            changed, moved = augment_batch(batch, recipe, generator=generator)
            loss = _loss(network, changed, moved, way.precision, LOSS)
        else:
            views = technique.views(batch, unlabelled, generator)
            loss = _losses(technique, views, progress, way.precision)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if technique is not None:
            technique.after_step(progress)
        update_average(average, network, step=100, decay=0.99)

    return step


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--slices", type=int, default=8)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--block", type=int, nargs=3, metavar="N", help="sides of blocks, instead of slices")
    parser.add_argument("--rounds", type=int, default=9, help="steps of each that count")
    parser.add_argument("--ways", default="auto", help="float32,kernels,bfloat16 (auto: what the hardware does well)")
    parser.add_argument("--processor-time", action="store_true", help="for a busy machine; with one thread")
    parser.add_argument("--smoke", action="store_true", help="a small network, once: only whether it runs")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # a child's variant
    given = parser.parse_args()
    if given.smoke:
        given.size, given.slices, given.width, given.rounds = 32, 2, CLASSES, 1
    sides: Sides = (given.size, given.size) if given.block is None else tuple(given.block)
    ways = ways_to_run(given.ways)
    if given.one:
        name, share, way = given.one
        step = step_of(name, float(share), sides, given.slices, given.width, ways_to_run(way)[way])
        serve(step, processor_time=given.processor_time)
        return
    way = "kernels" if "kernels" in ways and len(sides) == 2 else next(iter(ways))  # which are for slices
    shared = [f"--{name}={getattr(given, name)}" for name in ("size", "slices", "width")]
    shared += ["--processor-time"] if given.processor_time else []
    shared += [] if given.block is None else ["--block", *map(str, given.block)]
    variants = {PLAIN: ["--one", PLAIN, "1", way, *shared]}
    for name in (each for each in semi.available() if len(sides) in semi.load(each).dimensions):
        variants[name] = ["--one", name, "1", way, *shared]
        variants[f"{name}, warm-up"] = ["--one", name, "0", way, *shared]
    took = measure(__file__, variants, rounds=given.rounds, together=True)
    print(f"{device()}, {way}\n\n| step | ms | of a plain one | peak MiB |\n|---|---|---|---|")
    for name, measured in took.items():
        ratio = measured["ms"] / took[PLAIN]["ms"]
        print(f"| {name} | {measured['ms']:.0f} | {ratio:.2f} | {measured['MiB']:.0f} |")


if __name__ == "__main__":
    main()
