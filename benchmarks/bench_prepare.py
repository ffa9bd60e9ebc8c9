"""Preparing: volumes a minute with one process and with two, and where the time goes.

    python benchmarks/bench_prepare.py DATA [--sets mscmr la2018] [--repeats 3] [--json FILE]
    python benchmarks/bench_prepare.py --smoke

DATA holds one folder with a dataset.json for each set; without it four phantoms are generated. Beside `jcl prepare`
stands what any program has to do with the same files: unpack them (zlib alone: the floor), and read and resample
them with SimpleITK (theirs; no scaling, no check, nothing written). The share is that of unpacking and resampling in
the processor time of one process that prepares; volumes a minute and the gain of two processes are by the clock,
and mean something only on a quiet machine. What the start of a second process costs shows in the processor time of
two beside one on any machine.
"""

import argparse
import contextlib
import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from jcl.config import PrepareConfig
from jcl.data import phantom, preparation, resampling
from jcl.stages.prepare import prepare

SPACINGS = {"mscmr": 1.0, "la2018": 0.8, "chaos": 1.5, "hippocampus": None}
"""In plane, mm; a set that is not named here is kept as it is."""

PR_SET_CHILD_SUBREAPER = 36


def unpack(files: list[Path]) -> None:
    """Unpack every file, checksum and all."""
    for path in files:
        zlib.decompress(path.read_bytes(), 31)


def read_and_resample(files: list[Path], spacing: float | None) -> None:
    """Read with SimpleITK and resample in plane: images linearly, labels to the nearest voxel."""
    for path in files:
        image = sitk.ReadImage(str(path))
        if spacing is None:
            continue
        order = sorted(range(3), key=lambda axis: image.GetSpacing()[axis])[:2]
        new = [spacing if axis in order else step for axis, step in enumerate(image.GetSpacing())]
        size = [round(n * a / b) for n, a, b in zip(image.GetSize(), image.GetSpacing(), new, strict=True)]
        label = path.parent.name.startswith("labels")
        how = sitk.sitkNearestNeighbor if label else sitk.sitkLinear
        place = image.GetOrigin(), new, image.GetDirection()
        sitk.Resample(image, size, sitk.Transform(), how, *place, 0.0, image.GetPixelID())


def processor_seconds(run: Callable[[], object], repeats: int) -> float:
    """Median processor time of this process."""
    times: list[float] = []
    for _ in range(repeats):
        begun = time.process_time()
        run()
        times.append(time.process_time() - begun)
    return statistics.median(times)


def inside(source: Path, spacing: float | None, repeats: int) -> tuple[float, float]:
    """Processor seconds of preparing in this process, and those of it that resampling took; no start of Python."""
    resampled = 0.0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            nonlocal resampled
            begun = time.process_time()
            result = function(*arguments)
            resampled += time.process_time() - begun
            return result

        return run

    image, label = resampling.resample_image, preparation.resample_label
    resampling.resample_image, preparation.resample_label = counted(image), counted(label)
    totals: list[float] = []
    try:
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as folder:
                begun = time.process_time()
                prepare(PrepareConfig(source=source, out=Path(folder, "store"), spacing=spacing, workers=1))
                totals.append(time.process_time() - begun)
    finally:
        resampling.resample_image, preparation.resample_label = image, label
    return statistics.median(totals), resampled / repeats


def adopt_orphans() -> None:
    """From now on what outlives the process that started it is ours to wait for, and its time counts (Linux).

    So does the process that prepare's workers are copies of.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def wait_for_orphans() -> None:
    """Until none is left."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def command(source: Path, spacing: float | None, workers: int, repeats: int) -> tuple[float, float]:
    """Median seconds by the clock and of the processors that the whole command takes."""
    walls: list[float] = []
    used: list[float] = []
    options = ["--spacing", str(spacing)] if spacing else []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            line = [sys.executable, "-m", "jcl", "prepare", str(source), "--out", f"{folder}/store", *options]
            before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run([*line, "--workers", str(workers)], check=True, stderr=subprocess.DEVNULL)
            walls.append(time.perf_counter() - begun)
            wait_for_orphans()
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(walls), statistics.median(used)


def measure(source: Path, spacing: float | None, repeats: int) -> list[dict[str, Any]]:
    """The rows of one set, printed too."""
    name = source.name + (f" at {spacing:g} mm" if spacing else "")
    volumes = len(json.loads((source / "dataset.json").read_text())["training"])
    files = sorted(source.glob("*Tr/*.nii.gz"))
    inflating = processor_seconds(lambda: unpack(files), repeats)
    theirs = processor_seconds(lambda: read_and_resample(files, spacing), repeats)
    ours, resampling_took = inside(source, spacing, repeats)
    share = (inflating + resampling_took) / ours
    (one, used), (two, used_by_two) = (command(source, spacing, workers, repeats) for workers in (1, 2))
    print(
        f"\n{name}: {volumes} volumes, {sum(path.stat().st_size for path in files) / 1e6:.0f} MB\n"
        f"  processor seconds: unpacking alone {inflating:.2f}, SimpleITK reading and resampling {theirs:.2f}, "
        f"jcl.prepare {ours:.2f}, of which resampling {resampling_took:.2f}\n"
        f"  unpacking and resampling are {100 * share:.0f} % of it\n"
        f"  the command, one process: {one:.2f} s ({used:.2f} s of processors), {60 * volumes / one:.0f} volumes/min\n"
        f"  the command, two: {two:.2f} s ({used_by_two:.2f} s), {60 * volumes / two:.0f} volumes/min, "
        f"{one / two:.2f} times as fast",
        flush=True,
    )

    def row(what: str, ours: float, unit: str, **more: Any) -> dict[str, Any]:
        none = {"theirs": None, "floor": None, "ratio": ours, "goal": None}
        return {"row": "7", "name": f"prepare {name}: {what}", "ours": ours, "unit": unit, **none, **more}

    floor = inflating + resampling_took
    return [
        row("in one process", ours, "s of a processor", theirs=theirs, floor=floor, ratio=theirs / ours),
        row("share of unpacking and resampling", share, "", goal=0.6),
        row("volumes a minute, one process", 60 * volumes / one, "1/min"),
        row("volumes a minute, two processes", 60 * volumes / two, "1/min"),
        row("processor time of two processes beside one", used_by_two / used, "times as much", goal=1.0),
        row("two processes beside one", one / two, "times as fast", goal=float(min(2, os.cpu_count() or 1))),
    ]


def main() -> None:
    """Measure each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--smoke", action="store_true", help="two small generated volumes, once")
    parser.add_argument("--sets", nargs="+", default=list(SPACINGS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    given = parser.parse_args()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    adopt_orphans()
    rows: list[dict[str, Any]] = []
    if given.data and not given.smoke:
        for name in given.sets:
            rows += measure(given.data / name, SPACINGS.get(name), given.repeats)
    else:
        count, size, slices = (2, 32, 24) if given.smoke else (4, 256, 64)
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "phantom")
            phantom.write_dataset(source, labelled=range(count), unlabelled=[], size=size, slices=slices)
            rows += measure(source, 1.0, 1 if given.smoke else given.repeats)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
