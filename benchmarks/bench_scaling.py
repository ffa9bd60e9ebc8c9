"""How cost grows: with the size of the slices, of the batch and of the set, and what more processes gain.

    python benchmarks/bench_scaling.py [--only size batch set processes prepare] [--out FIGURE.png] [--json FILE]
    python benchmarks/bench_scaling.py --smoke

- size: a step of JCL, width 32, float32 on kernels, one thread, 4 slices of 64 to 512 pixels a side: processor time,
  and memory above that before the network was built, in a process of its own (`bench_methods.py --one`).
- batch: the same with 4 to 64 slices of 128 pixels a side.
- set: stores of a thousand to a hundred thousand small slices, each used in a process of its own: opening and listing,
  the order of an epoch, reading a batch, memory above the start.
- processes: `jcl pretrain` with `--devices cpu:N`, a thread each, the same 16 slices per step, 128 pixels a side.
- prepare: `jcl prepare --workers N` on generated CTs, the start of the program included.

All five take some twenty minutes on two cores; how long each takes is printed first. The slope is that of a straight
line through the logarithms of all points: 1 is linear, 2 quadratic, 0 flat. What a curve starts from (a program's
start, the weights of a network) makes it flatter at its beginning, so the slope between the last two points is printed
beside it.
Processes and workers cannot gain beyond the number of cores.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from bench_processes import slices_per_second
from bench_waiting import make_store as make_chests
from measuring import device, memory, reset_peak, write_json
from scaling_figure import Curve, draw

from jcl.data import phantom
from jcl.data.batches import SliceDataset, load_batches
from jcl.data.sampler import BatchSampler
from jcl.data.slices import list_slices
from jcl.data.store import Store
from jcl.data.store_writing import write_case, write_manifest

HERE = Path(__file__).parent
CASE = 100
"""Slices of a case of the generated stores."""
PIXELS = 32

MINUTES = {"size": 2, "batch": 3, "set": 3, "processes": 5, "prepare": 3}
"""What the parts take on two cores without bfloat16."""


def steps(points: Sequence[tuple[int, int]], width: int, rounds: int) -> list[dict[str, float]]:
    """Milliseconds and MiB of a step of the default method, at each size of slices and of the batch."""
    found: list[dict[str, float]] = []
    for size, batch in points:
        flags = [f"--size={size}", f"--batch={batch}", f"--width={width}", f"--steps={rounds}"]
        command = [sys.executable, HERE / "bench_methods.py", "--one", "jcl", *flags]
        found.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return found


def by_size(smoke: bool) -> list[Curve]:
    """A step over the side of its slices, whose area is what counts."""
    sizes, batch, width = ((64, 128), 2, 4) if smoke else ((64, 128, 256, 512), 4, 32)
    found = steps([(size, batch) for size in sizes], width, 1 if smoke else 2)
    across = f"side of a slice, pixels ({batch} slices per step)"
    return step_curves("the size of slices", across, sizes, found, wanted=2)


def by_batch(smoke: bool) -> list[Curve]:
    """A step over the number of its slices."""
    batches, size, width = ((2, 4), 64, 4) if smoke else ((4, 8, 16, 32, 64), 128, 32)
    found = steps([(size, batch) for batch in batches], width, 1 if smoke else 2)
    return step_curves("the batch", f"slices per step ({size} x {size})", batches, found, wanted=1)


def step_curves(
    what: str, across: str, at: Sequence[int], found: list[dict[str, float]], *, wanted: float
) -> list[Curve]:
    """Time and memory of steps."""
    values = {key: {x: step[key] for x, step in zip(at, found, strict=True)} for key in ("ms", "MiB")}
    time = Curve(f"How long does a step take, over {what}?", "step", across, "ms of one thread", wanted, values["ms"])
    more = "MiB above the start"
    return [time, Curve(f"How much memory does it take, over {what}?", "peak", across, more, wanted, values["MiB"])]


def make_store(path: Path, slices: int) -> None:
    """Cases of noise, which is neither squeezed nor quick to unpack."""
    (path / "cases").mkdir(parents=True)
    image = np.random.default_rng(0).random((1, CASE, PIXELS, PIXELS), np.float32)
    names = [f"c{number:05d}" for number in range(slices // CASE)]
    records = [
        write_case(path, image, None, case=name, patient=name, spacing=(1, 1, 1), source={}, classes=0)
        for name in names
    ]
    write_manifest(path, {"channels": 1, "padded": [PIXELS, PIXELS], "classes": []}, records, [])


def use_store(path: Path, batches: int) -> dict[str, float]:
    """In a child: milliseconds of opening and listing, of an epoch's order, of a batch of 16; MiB above the start."""
    before = reset_peak()
    laps = [time.process_time()]
    store = Store.open(path)
    slices = SliceDataset([store], list_slices([store], [None], labelled=False), labels=False)
    laps.append(time.process_time())
    order = BatchSampler([0] * len(slices), 16, seed=0)
    next(iter(order))
    laps.append(time.process_time())
    for _ in itertools.islice(load_batches(slices, order), batches):
        pass
    laps.append(time.process_time())
    opening, shuffling, reading = (1000 * (b - a) for a, b in itertools.pairwise(laps))
    return {"open": opening, "order": shuffling, "batch": reading / batches, "MiB": memory() - before}


def by_set(smoke: bool) -> list[Curve]:
    """What stores of growing size cost."""
    counts, batches = ((100, 200), 5) if smoke else ((1000, 10_000, 100_000), 200)
    found: dict[int, dict[str, float]] = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            make_store(Path(folder, "store"), count)
            command = [sys.executable, __file__, "--store", f"{folder}/store", "--batches", str(batches)]
            found[count] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    values = {key: {count: one[key] for count, one in found.items()} for key in ("open", "order", "batch", "MiB")}
    across, ms = "slices in the set", "ms of one thread"
    begin, flat = "How long does the loader take to begin?", "Does reading get slower in a larger set?"
    return [
        Curve(begin, "opening and listing", across, ms, 1, values["open"]),
        Curve(begin, "order of an epoch", across, ms, 1, values["order"]),
        Curve(flat, "a batch of 16", across, ms, 0, values["batch"]),
        Curve("Does the loader hold more of a larger set?", "peak", across, "MiB above the start", 0, values["MiB"]),
    ]


def by_processes(smoke: bool) -> list[Curve]:
    """Slices a second of pre-training over the number of processes, of one thread each."""
    counts, size, rounds = ((1, 2), 64, 2) if smoke else ((1, 2, 4), 128, 20)
    rates: dict[float, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        make_chests(Path(folder, "store"), size, 24)
        for count in counts:
            rates[count] = slices_per_second(Path(folder, "store"), Path(folder, f"run{count}"), count, count, rounds)
    across = f"processes, {os.cpu_count()} cores ({size} x {size})"
    return [Curve("What do processes gain in pre-training?", "jcl pretrain", across, "slices/s", 1, rates, gain=True)]


def make_scans(folder: Path, count: int, size: int, slices: int) -> None:
    """CTs without labels: a few generated ones, each under several names."""
    (folder / "images").mkdir(parents=True)
    for number in range(min(4, count)):
        made = phantom.scan(phantom.draw_patient(0, number), size=size, slices=slices, field=330)
        image = sitk.GetImageFromArray(made.image)
        image.SetSpacing(made.spacing[::-1])
        sitk.WriteImage(image, str(folder / "images" / f"scan{number:03d}.nii.gz"), useCompression=True)
    for number in range(4, count):
        first = (folder / "images" / f"scan{number % 4:03d}.nii.gz").read_bytes()
        (folder / "images" / f"scan{number:03d}.nii.gz").write_bytes(first)


def by_workers(smoke: bool) -> list[Curve]:
    """Volumes a minute that are prepared, over the number of workers."""
    counts, scans, size, slices = ((1, 2), 4, 64, 8) if smoke else ((1, 2, 4), 96, 256, 32)
    rates: dict[float, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        make_scans(Path(folder, "scans"), scans, size, slices)
        for count in counts:
            command = [sys.executable, "-m", "jcl", "prepare", f"{folder}/scans", "--out", f"{folder}/store{count}"]
            begun = time.perf_counter()
            subprocess.run([*command, "--workers", str(count)], check=True, capture_output=True)
            rates[count] = 60 * scans / (time.perf_counter() - begun)
    across = f"workers, {os.cpu_count()} cores ({size} x {size} x {slices})"
    return [Curve("What do workers gain in preparing?", "jcl prepare", across, "volumes a minute", 1, rates, gain=True)]


PARTS: dict[str, Callable[[bool], list[Curve]]] = {
    "size": by_size,
    "batch": by_batch,
    "set": by_set,
    "processes": by_processes,
    "prepare": by_workers,
}


def options_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART", help="some parts"
    )
    parser.add_argument("--out", type=Path, help="the figure to draw")
    parser.add_argument("--json", type=Path, help="also write the curves to this file")
    parser.add_argument("--smoke", action="store_true", help="two small points a curve")
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--batches", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def row_of(curve: Curve) -> dict[str, Any]:
    """A curve as `--json` writes it: its points, the fitted slope, and that of a straight line as it should be."""
    name = f"{curve.question} {curve.name}, {curve.across}"
    row = {"row": "scaling", "name": name, "theirs": None, "ours": list(curve.points.items()), "floor": None}
    ends = {"ratio": curve.slope(), "last": curve.last_slope(), "goal": curve.wanted, "gain": curve.gain}
    return {**row, "unit": curve.unit, **ends, "device": device()}


def main() -> None:
    """Measure, print, draw; `--store` is what it runs in processes of their own."""
    given = options_of()
    if given.store:
        print(json.dumps(use_store(given.store, given.batches)))
        return
    if not given.smoke:
        shown = ", ".join(f"{part} {MINUTES[part]} min" for part in given.only)
        print(f"about {sum(MINUTES[part] for part in given.only)} minutes on two cores: {shown}", flush=True)
    curves: list[Curve] = []
    for part in given.only:
        begun = time.perf_counter()
        found = PARTS[part](given.smoke)
        print(f"\n{part} (took {(time.perf_counter() - begun) / 60:.1f} min)")
        for curve in found:
            points = ", ".join(f"{at:g}: {value:.4g}" for at, value in curve.points.items())
            slopes = f"slope {curve.slope():.2f} (last two {curve.last_slope():.2f}, straight {curve.wanted:g})"
            print(f"  {curve.question} {curve.name}: {slopes}; {curve.unit}: {points}", flush=True)
        curves += found
        write_json(given.json, [row_of(curve) for curve in curves])
        if given.out:
            draw(given.out, curves, device())


if __name__ == "__main__":
    main()
