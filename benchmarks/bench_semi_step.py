"""A fine-tuning step with each semi-supervised technique, beside the plain step on the same labelled slices.

    python benchmarks/bench_semi_step.py [--size 64] [--slices 8] [--width 16] [--smoke]

As many slices without labels as with, by the recipe `strong`, on the kernels where they can be had. From augmentation
to the teacher's following, when the unlabelled slices count; *warm-up* is a step on labels alone. Each variant is a
process of its own, they take turns, and a row's ratio is to the plain step of the same run.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from bench_finetune_step import CLASSES, build, labelled
from measuring import device, measure, serve, ways_to_run

from jcl import semi
from jcl.augment.labelled import LabelledRanges, augment
from jcl.backbones import Backbone
from jcl.config import FinetuneConfig
from jcl.data.manifest import IGNORE
from jcl.losses.segmentation import dice_cross_entropy
from jcl.parallel.allocator import keep_memory
from jcl.stages.finetune import _loss, _losses, _ranges
from jcl.training.autotune import Execution, apply_execution
from jcl.training.averaging import averaged_copy, update_average
from jcl.training.optim import adam, set_learning_rate
from jcl.training.recipes import settle

PLAIN = "plain"
LOSS = partial(dice_cross_entropy, ignore=IGNORE)


def ranges() -> LabelledRanges:
    config = FinetuneConfig(store=Path("store"), init="none", out=Path("out"), recipe="strong")
    return _ranges(settle(config, None))


def step_of(name: str, share: float, size: int, count: int, width: int, way: Execution) -> Callable[[], object]:
    """A step of the plain fine-tuning or of a technique, after that share of the training."""
    keep_memory()
    network = build(width)
    assert isinstance(network, Backbone)
    technique = None
    if name != PLAIN:
        another = partial(build, width)
        supervision = semi.Supervision(loss=LOSS, ranges=ranges(), another=another)  # pyright: ignore[reportArgumentType]
        technique = semi.build(name, network, supervision, {})
    model = (technique or network).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    average = averaged_copy(network)
    apply_execution(network, way, method=model)
    optimizer = adam(parameter for parameter in model.parameters() if parameter.requires_grad)
    set_learning_rate(optimizer, 1e-3)
    generator, progress = torch.Generator().manual_seed(0), semi.Progress(int(100 * share), 100)
    images, labels = labelled(size, count)
    unlabelled = labelled(size, count)[0]
    recipe = ranges()

    def step() -> None:
        if technique is None:
            changed, moved = augment(images, labels, recipe, generator=generator)
            loss = _loss(network, changed, moved, way.precision, LOSS)
        else:
            views = technique.views(images, labels, unlabelled, generator)
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
    parser.add_argument("--rounds", type=int, default=9, help="steps of each that count")
    parser.add_argument("--ways", default="auto", help="float32,kernels,bfloat16 (auto: what the hardware does well)")
    parser.add_argument("--processor-time", action="store_true", help="for a busy machine; with one thread")
    parser.add_argument("--smoke", action="store_true", help="a small network, once: only whether it runs")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # a child's variant
    given = parser.parse_args()
    if given.smoke:
        given.size, given.slices, given.width, given.rounds = 32, 2, CLASSES, 1
    size = (given.size, given.slices, given.width)
    ways = ways_to_run(given.ways)
    if given.one:
        name, share, way = given.one
        serve(step_of(name, float(share), *size, ways_to_run(way)[way]), processor_time=given.processor_time)
        return
    way = "kernels" if "kernels" in ways else next(iter(ways))
    shared = [f"--{name}={getattr(given, name)}" for name in ("size", "slices", "width")]
    shared += ["--processor-time"] if given.processor_time else []
    variants = {PLAIN: ["--one", PLAIN, "1", way, *shared]}
    for name in semi.available():
        variants[name] = ["--one", name, "1", way, *shared]
        variants[f"{name}, warm-up"] = ["--one", name, "0", way, *shared]
    took = measure(__file__, variants, rounds=given.rounds, together=True)
    print(f"{device()}, {way}\n\n| step | ms | of a plain one | peak MiB |\n|---|---|---|---|")
    for name, measured in took.items():
        ratio = measured["ms"] / took[PLAIN]["ms"]
        print(f"| {name} | {measured['ms']:.0f} | {ratio:.2f} | {measured['MiB']:.0f} |")


if __name__ == "__main__":
    main()
