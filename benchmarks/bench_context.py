"""What neighbours cost: reading a batch and a whole fine-tuning step, of slices by themselves and with neighbours.

    python benchmarks/bench_context.py [--contexts 0 1 2] [--size 128] [--slices 8] [--rounds 9] [--smoke]

Milliseconds of processor time of one thread, the median of some rounds in which all take turns, each in a process of
its own: the machine may do other things too. Reading is `jcl.data.batches.SliceDataset.read`, which is what the
loader's thread does, from CT-like slices (`bench_store.py`) in random order, in the system's cache. A step is that of
the strong recipe: augmentation, U-Net, loss and Adam.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from bench_finetune_step import labelled
from bench_store import write_ours
from measuring import device, measure, serve, ways_to_run

from jcl import backbones
from jcl.augment.labelled import LabelledRanges, augment
from jcl.data.batches import SliceDataset
from jcl.data.context import span_of
from jcl.data.sampler import BatchSampler
from jcl.data.slices import list_slices
from jcl.data.store import Store
from jcl.losses.segmentation import LOSSES
from jcl.parallel.allocator import keep_memory
from jcl.training.autotune import apply_execution
from jcl.training.optim import adam, set_learning_rate

CASES, DEEP, CLASSES = 8, 30, 4
"""Of the store, and slices of a case; and of the network."""


def reading(store: Path, count: int, context: int) -> Callable[[], object]:
    """The next batch, as the loader's thread reads it."""
    opened = Store.open(store)
    slices = SliceDataset([opened], list_slices([opened], [None], labelled=False), labels=False, context=context)
    order = iter(BatchSampler([0] * len(slices), count, seed=0))
    return lambda: slices.read(next(order))


def step_of(size: int, count: int, width: int, context: int) -> Callable[[], object]:
    """A step as `jcl finetune` does it, on slices whose neighbours are like themselves."""
    keep_memory()
    torch.manual_seed(0)
    network = backbones.load("unet")(in_channels=span_of(context), classes=CLASSES, width=width)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    ways = ways_to_run("auto")
    apply_execution(network, ways.get("kernels", ways["float32"]))
    optimizer, generator = adam(network.parameters()), torch.Generator().manual_seed(0)
    set_learning_rate(optimizer, 1e-3)
    alone, labels = labelled(size, count)
    images, ranges = alone.repeat(1, span_of(context), 1, 1), LabelledRanges(intensity=1.0)

    def step() -> None:
        warped, moved = augment(images, labels, ranges, generator=generator)
        loss = LOSSES["dice_cross_entropy"](network(warped.contiguous(memory_format=torch.channels_last)), moved)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def options_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--slices", type=int, default=8, help="of a batch")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9, help="batches and steps of each that count")
    parser.add_argument("--smoke", action="store_true", help="small, once: only whether it runs")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # a child's task and context
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    given = options_of()
    torch.set_num_threads(1)
    if given.one:
        what, context = given.one[0], int(given.one[1])
        read = what == "read"
        made = reading(given.store, given.slices, context) if read else None
        serve(made or step_of(given.size, given.slices, given.width, context), processor_time=True)
        return
    if given.smoke:
        given.size, given.slices, given.width, given.rounds, given.contexts = 32, 2, 4, 1, [0, 1]
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        write_ours(store, CASES, DEEP, given.size)
        shared = [f"--{name}={getattr(given, name)}" for name in ("size", "slices", "width")]
        shared.append(f"--store={store}")
        variants = {
            f"{what} {context}": ["--one", what, str(context), *shared]
            for what in ("read", "step")
            for context in given.contexts
        }
        took = measure(__file__, variants, rounds=given.rounds, together=True)
    print(f"{device()}\n{given.slices} slices of {given.size} x {given.size}, U-Net of width {given.width}\n")
    print("| context | reading, ms | step, ms | step, MiB |\n|---|---|---|---|")
    for context in given.contexts:
        read, step = took[f"read {context}"], took[f"step {context}"]
        print(f"| {context} | {read['ms']:.1f} | {step['ms']:.0f} | {step['MiB']:.0f} |")


if __name__ == "__main__":
    main()
