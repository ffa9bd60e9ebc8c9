"""The loader beside what a pre-training step consumes: random slices of a large store, read by one worker thread.

    python benchmarks/bench_loader.py [--slices 20000] [--step-seconds 20] [--folder FOLDER] [--json FILE] [--smoke]

Generates two stores of CT-like slices of 512 x 512 (`bench_store.py`), one ten times the other, and reads each in a
process of its own: batches of 16 in random order with one worker thread, one computing thread, as many slices of each
as the larger has. The rate is the median over parts of 30 batches, first after the system was asked to forget the
files, then from its cache. Memory is the most that was resident from start to end, PyTorch and opened files included.

What is compared with is the rate at which a step of row 2 takes slices: measured here with few slices (`bench_step.py`,
whose time grows with their number), or given as the seconds of a step of 16. The floor is copying float32 slices.

2,000 slices (the default) take a minute to write and 0.6 GB of disk, 20,000 ten times that; the step takes a minute.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_store import BATCH, forget, write_ours
from measuring import Child, memory, reset_peak, ways_to_run, write_json

from jcl.data.batches import SliceDataset, load_batches
from jcl.data.sampler import BatchSampler
from jcl.data.slices import list_slices
from jcl.data.store import Store

HERE = Path(__file__).parent
CASE = 200
"""Slices of a case, as many as a CT has."""

PART = 30
"""Batches over which a rate is taken."""


def read(path: Path, batches: int) -> dict[str, float]:
    """In a child: median slices/s of one worker's batches, and MiB before the store was opened and at the peak."""
    torch.set_num_threads(1)
    before = reset_peak()
    store = Store.open(path)
    slices = SliceDataset([store], list_slices([store], [None], labelled=False), labels=False)
    loaded = load_batches(slices, BatchSampler([0] * len(slices), BATCH, seed=0), workers=1)
    next(loaded)  # the thread starts
    rates: list[float] = []
    for _ in range(max(1, batches // PART)):
        begun, many = time.perf_counter(), min(PART, batches)
        for _ in itertools.islice(loaded, many):
            pass
        rates.append(many * BATCH / (time.perf_counter() - begun))
    return {"rate": statistics.median(rates), "before": before, "peak": memory()}


def read_apart(path: Path, batches: int) -> dict[str, float]:
    """`read` in a fresh process."""
    command = [sys.executable, __file__, "--read", str(path), "--batches", str(batches)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def copying(size: int, *, count: int = 64) -> float:
    """Slices/s of copying float32 slices, of more memory than caches hold."""
    source = np.ones((count, size, size), np.float32)
    target = np.zeros_like(source)
    times: list[float] = []
    for _ in range(7):
        begun = time.perf_counter()
        np.copyto(target, source)
        times.append(time.perf_counter() - begun)
    return count / statistics.median(times)


def consumption(size: int, slices: int, width: int) -> tuple[float, str]:
    """Slices/s that a step takes, in the faster precision of this machine, after one that warms up; and which it is."""
    found: dict[str, float] = {}
    for precision in ways_to_run("auto"):
        arguments = ["--one", precision, str(size), "--slices", str(slices), "--width", str(width)]
        child = Child(str(HERE / "bench_step.py"), arguments)
        child.step()
        found[precision] = 1000 * slices / child.step()["ms"]
        child.close()
    fastest = max(found, key=lambda precision: found[precision])
    return found[fastest], fastest


def make_stores(folder: Path, slices: int, size: int) -> dict[int, Path]:
    """A store of a tenth of the slices and one of all, unless they are there; by number of slices."""
    case = min(CASE, slices // 10)
    stores: dict[int, Path] = {}
    for cases in (slices // 10 // case, 10 * (slices // 10 // case)):
        path = folder / f"{cases * case}-of-{size}"
        if not (path / "store.json").exists():
            begun = time.perf_counter()
            write_ours(path, cases, case, size)
            print(f"writing {cases * case} slices took {time.perf_counter() - begun:.0f} s", flush=True)
        stores[cases * case] = path
    return stores


def rows_of(size: int, taken: float, copied: float, found: dict[int, dict[str, float]], cold: float) -> list[Any]:
    """The rows of the table: rates beside what a step takes, memory beside that of the smaller store."""
    few, many = found
    what = f"slices of {size} x {size}, {many:,} of them, one worker, beside what a pre-training step takes"
    rate = {"row": "4", "name": what, "theirs": taken, "ours": found[many]["rate"], "floor": copied, "unit": "slices/s"}
    disk = {**rate, "name": "the same, the system's cache emptied before", "ours": cold}
    held = {"row": "4", "name": f"memory of a process that reads {many:,} slices, beside {few:,}", "unit": "MiB"}
    held |= {"theirs": found[few]["peak"], "ours": found[many]["peak"], "floor": found[many]["before"]}
    rows = [{**row, "ratio": row["ours"] / taken, "goal": ">= 10"} for row in (rate, disk)]
    return [*rows, {**held, "ratio": held["ours"] / held["theirs"], "goal": "1"}]


def options_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=2000, help="of the larger store; it is cut to whole cases")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--folder", type=Path, help="where the stores are written and kept (else they are removed)")
    parser.add_argument("--step-seconds", type=float, help="of a step of 16 slices, instead of measuring one")
    parser.add_argument("--step-slices", type=int, default=4, help="of the step that is measured")
    parser.add_argument("--width", type=int, default=32, help="of the step's network")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--smoke", action="store_true", help="a few small slices: only whether it runs")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--batches", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Print the figures; `--read` is what it runs in processes of their own."""
    given = options_of()
    if given.read:
        print(json.dumps(read(given.read, given.batches)))
        return
    if given.smoke:
        given.slices, given.size, given.step_slices, given.width = 200, 64, 2, 4
    with tempfile.TemporaryDirectory() as temporary:
        stores = make_stores(given.folder or Path(temporary), given.slices, given.size)
        batches = max(stores) // BATCH
        forget(stores[max(stores)])
        cold = read_apart(stores[max(stores)], batches)["rate"]
        found = {count: read_apart(path, batches) for count, path in stores.items()}
    copied = copying(given.size)
    taken, how = BATCH / (given.step_seconds or 1), f"given: {given.step_seconds} s a step"
    if given.step_seconds is None:
        taken, how = consumption(given.size, given.step_slices, given.width)
    rows = rows_of(given.size, taken, copied, found, cold)
    print(f"a step takes {taken:.2f} slices/s ({how}); copying {copied:.0f} slices/s")
    for row in rows:
        print(f"{row['name']}: {row['ours']:.0f} {row['unit']}, {row['ratio']:.2f} times {row['theirs']:.2f}")
    write_json(given.json, rows)


if __name__ == "__main__":
    main()
