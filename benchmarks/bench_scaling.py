"""How cost grows: with the size of the slices, of the batch and of the set, and what more processes gain.

    python benchmarks/bench_scaling.py [--out FIGURE.png] [--json FILE] [--smoke] [--launch COMMAND]

A step of the default method (JCL, width 16, float32, one thread) at 64 to 512 pixels a side in batches of 16, and at 64
pixels in batches of 4 to 64: processor time and memory, each in a process of its own (`bench_methods.py --one`). Then
stores of a thousand to a hundred thousand small slices: opening and listing, the order of an epoch, reading, and
resident memory of the loader. With `--launch` a command is timed with 1, 2 and 4 in place of its {n}; {out} is a new
folder. The exponent is the slope of a straight line through the logarithms: 1 is linear, 0 flat.
"""

import argparse
import itertools
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from jcl.data.batches import BatchOrder, Slices, list_slices, load_batches
from jcl.data.store import Store, write_case, write_manifest

HERE = Path(__file__).parent
CASE = 100
"""Slices of a case of the generated stores."""
PIXELS = 32

Curve = dict[float, float]


def step(size: int, batch: int, width: int, steps: int) -> dict[str, float]:
    """Milliseconds and MiB of a step of the default method."""
    flags = [f"--size={size}", f"--batch={batch}", f"--width={width}", f"--steps={steps}"]
    command = [sys.executable, HERE / "bench_methods.py", "--one", "jcl", *flags]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def make_store(path: Path, slices: int) -> None:
    """Cases of noise, which is neither squeezed nor quick to unpack."""
    (path / "cases").mkdir(parents=True)
    random = np.random.default_rng(0)
    image = random.random((1, CASE, PIXELS, PIXELS), np.float32)
    names = [f"c{number:05d}" for number in range(slices // CASE)]
    records = [
        write_case(path, image, None, case=name, patient=name, spacing=(1, 1, 1), source={}, classes=0)
        for name in names
    ]
    write_manifest(path, {"channels": 1, "padded": [PIXELS, PIXELS], "classes": []}, records, [])


def use_store(path: Path, batches: int) -> dict[str, float]:
    """Milliseconds of opening and listing, of an epoch's order, of a batch of 16; MiB that the process holds."""
    laps = [time.process_time()]
    store = Store.open(path)
    slices = Slices([store], list_slices([store], [None], labelled=False), labels=False)
    laps.append(time.process_time())
    order = BatchOrder([0] * len(slices), 16, seed=0)
    order.epoch(0)
    laps.append(time.process_time())
    for _ in itertools.islice(load_batches(slices, order), batches):
        pass
    laps.append(time.process_time())
    opening, shuffling, reading = (1000 * (b - a) for a, b in itertools.pairwise(laps))
    # not what getrusage says, which a process has from its parent
    lines = Path("/proc/self/status").read_text().splitlines()
    held = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    return {"open, ms": opening, "order, ms": shuffling, "batch, ms": reading / batches, "held, MiB": held}


def set_sizes(counts: Sequence[int], batches: int) -> dict[str, Curve]:
    """What stores of these sizes cost, each used in a process of its own."""
    curves: dict[str, Curve] = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            make_store(Path(folder, "store"), count)
            command = [sys.executable, __file__, "--store", f"{folder}/store", "--batches", str(batches)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for name, value in found.items():
            curves.setdefault(f"set size: {name}", {})[count] = value
    return curves


def launch(command: str, counts: Sequence[int]) -> Curve:
    """Seconds by the clock of a command with these numbers of processes."""
    taken: Curve = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            line = shlex.split(command.format(n=count, out=f"{folder}/out"))
            begun = time.perf_counter()
            subprocess.run(line, check=True, stderr=subprocess.DEVNULL)
            taken[count] = time.perf_counter() - begun
    return taken


def exponent(curve: Curve) -> float:
    """Slope of the logarithms."""
    x, y = np.log(list(curve)), np.log(list(curve.values()))
    return float(np.polyfit(x, y, 1)[0])


def draw(path: Path, curves: dict[str, Curve]) -> None:
    """A panel a curve, both axes logarithmic, with a dashed line for linear growth."""
    columns = 3
    rows = -(-len(curves) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(9, 2.6 * rows), layout="constrained", squeeze=False)
    for axis, (name, curve) in zip(axes.flat, curves.items(), strict=False):
        x, y = list(curve), list(curve.values())
        axis.loglog(x, y, "o-")
        axis.loglog(x, [y[-1] * value / x[-1] for value in x], "--", color="grey", linewidth=0.8)
        axis.set_title(f"{name}: exponent {exponent(curve):.2f}", fontsize=8)
        axis.tick_params(labelsize=7)
    for axis in axes.flat[len(curves) :]:
        axis.axis("off")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print, draw; `--store` is what it runs in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the figure to draw")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--smoke", action="store_true", help="two small points a curve")
    parser.add_argument("--launch", help="a command with {n} and {out} in it")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.store:
        print(json.dumps(use_store(given.store, given.batches)))
        return
    sizes, batches, counts = (64, 128, 256, 512), (4, 8, 16, 32, 64), (1000, 10_000, 100_000)
    width, steps, read = given.width, given.steps, given.batches
    if given.smoke:
        sizes, batches, counts, width, steps, read = (32, 64), (4, 8), (100, 200), 4, 1, 5
    by_size = {size: step(size, batches[0] if given.smoke else 16, width, steps) for size in sizes}
    by_batch = {batch: step(sizes[0], batch, width, steps) for batch in batches}
    curves: dict[str, Curve] = {
        f"{what}: {name}": {(at**2 if what == "pixels" else at): found[key] for at, found in points.items()}
        for what, points in (("pixels", by_size), ("batch", by_batch))
        for name, key in (("step, ms", "ms"), ("memory, MiB", "MiB"))
    }
    curves |= set_sizes(counts, read)
    if given.launch:
        curves["processes: seconds"] = launch(given.launch, (1, 2, 4))
    for name, curve in curves.items():
        told = ", ".join(f"{at:g}: {value:.1f}" for at, value in curve.items())
        print(f"{name:24s} exponent {exponent(curve):5.2f}   {told}")
    rows: list[dict[str, Any]] = [
        {"row": "scaling", "name": name, "theirs": None, "ours": list(curve.items()), "floor": None,
         "unit": name.rsplit(", ")[-1], "ratio": exponent(curve), "goal": None}
        for name, curve in curves.items()
    ]  # fmt: skip
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")
    if given.out:
        draw(given.out, curves)


if __name__ == "__main__":
    main()
