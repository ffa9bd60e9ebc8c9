"""Share of a pre-training step in which the loop waits for its next batch.

    python benchmarks/bench_waiting.py [--smoke] [--sizes 64 128 256] [--steps 20]

Runs `jcl pretrain` itself (batches of 16, the default network and method, threads as PyTorch sets them) on a small
generated store, and times how long its loop waits for each batch: with slices read when they are asked for, with the
loader's thread that reads ahead, and with two of them. The waiting that counts is what a step takes longer, so
the time of a step stands beside it.

The second table has a loop whose step only sleeps: a stand-in for an accelerator, which leaves the processor to the
loader. It says nothing of any accelerator's speed.
"""

import argparse
import contextlib
import io
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from jcl.config import PretrainConfig
from jcl.data import phantom
from jcl.data.batches import SliceBatch, SliceDataset, load_batches
from jcl.data.sampler import BatchSampler
from jcl.data.slices import list_slices
from jcl.data.store import Store
from jcl.data.store_writing import write_case, write_manifest
from jcl.stages import pretrain as stage
from jcl.training import session

WARMUP = 3
Load = Callable[..., Iterator[SliceBatch]]


def make_store(path: Path, size: int, slices: int) -> None:
    """A store of generated chests, with scanner noise."""
    (path / "cases").mkdir(parents=True)
    records = []
    for number in range(2):
        image = phantom.scan(phantom.draw_patient(0, number), size=size, slices=slices).image.astype(np.float32)
        scaled = (np.clip(image, -1000, 700)[None] + 1000) / 1700
        name = f"case_{number}"
        record = write_case(path, scaled, None, case=name, patient=name, spacing=(1, 1, 1), source={}, classes=0)
        records.append(record)
    write_manifest(path, {"channels": 1, "padded": [size, size], "classes": []}, records, [])


def when_asked(slices: SliceDataset, order: BatchSampler, **_: object) -> Iterator[SliceBatch]:
    """What the loader does without reading ahead."""
    return (slices.read(indices) for indices in order)


class Watched:
    """A loader that writes down when each batch was asked for, and when it was there."""

    def __init__(self, load: Load, workers: int) -> None:
        self.load, self.workers = load, workers
        self.times: list[tuple[float, float]] = []

    def __call__(self, slices: SliceDataset, order: BatchSampler, **_: object) -> Iterator[SliceBatch]:
        batches = self.load(slices, order, workers=self.workers)
        while True:
            asked = time.perf_counter()
            batch = next(batches)
            self.times.append((asked, time.perf_counter()))
            yield batch

    def row(self) -> tuple[float, float, float]:
        """Medians of a step and of the waiting in ms, and the share of all time that was waited."""
        times = self.times[WARMUP:]
        steps = [later[0] - sooner[0] for sooner, later in itertools.pairwise(times)]
        waits = [there - asked for asked, there in times[:-1]]
        return 1000 * statistics.median(steps), 1000 * statistics.median(waits), sum(waits) / sum(steps)


WAYS: dict[str, tuple[Load, int]] = {
    "read when asked": (when_asked, 0),
    "one thread ahead (the default)": (load_batches, 1),
    "two threads ahead": (load_batches, 2),
}


def run_pretraining(store: Path, out: Path, load: Load, workers: int, steps: int) -> tuple[float, float, float]:
    """`jcl pretrain` with a watched loader."""
    watched = Watched(load, workers)
    kept, session.load_batches = session.load_batches, watched
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            stage.pretrain(PretrainConfig(stores=(store,), out=out, steps=steps + WARMUP + 1))
    finally:
        session.load_batches = kept
    return watched.row()


def run_stand_in(path: Path, load: Load, workers: int, steps: int, seconds: float) -> tuple[float, float, float]:
    """A loop whose step sleeps."""
    watched = Watched(load, workers)
    with contextlib.closing(Store.open(path)) as store:
        slices = list_slices([store], [None], labelled=False)
        batches = watched(SliceDataset([store], slices, labels=False), BatchSampler([0] * len(slices), 16, seed=0))
        for _ in range(steps + WARMUP + 1):
            next(batches)
            time.sleep(seconds)
        batches.close()
    return watched.row()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a small size, once: only whether it runs")
    parser.add_argument("--sizes", type=int, nargs="*", default=[64, 128, 256])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--stand-in", type=int, nargs="+", default=[20, 100], help="ms that a stand-in's step takes")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    if options.smoke:
        options.sizes, options.steps, options.stand_in = [64], 2, [20]
    last = 64 if options.smoke else 512
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for size in {*options.sizes, last}:
            make_store(folder / str(size), size, 24)
        print(f"{torch.get_num_threads()} threads, torch {torch.__version__}; batches of 16 slices\n")
        head = "| slices | loader | step, ms | waiting, ms | share of waiting |\n|---|---|---|---|---|"
        print(head)
        for size in options.sizes:
            for name, (load, workers) in WAYS.items():
                out = folder / f"run-{size}-{name}".replace(" ", "-")
                step, wait, share = run_pretraining(folder / str(size), out, load, workers, options.steps)
                print(f"| {size} x {size} | {name} | {step:.0f} | {wait:.2f} | {100 * share:.2f} % |", flush=True)
                if name.startswith("one thread"):
                    what = f"share of a step of 16 slices of {size} x {size} that waits for data"
                    rows.append(
                        {"row": "5", "name": what, "theirs": None, "ours": 100 * share, "floor": 0, "unit": "%"}
                    )
                    rows[-1] |= {"ratio": None, "goal": "<= 3 %"}
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1) + "\n")
        print(f"\nA stand-in that sleeps for each step, slices of {last} x {last}:\n\n{head}")
        for rest in options.stand_in:
            for name, (load, workers) in WAYS.items():
                step, wait, share = run_stand_in(folder / str(last), load, workers, options.steps, rest / 1000)
                print(f"| sleeps {rest} ms | {name} | {step:.1f} | {wait:.2f} | {100 * share:.2f} % |", flush=True)


if __name__ == "__main__":
    main()
