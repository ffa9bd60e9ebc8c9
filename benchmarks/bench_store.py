"""Random access to a large store, beside zarr, tensorstore, blosc2 and a memory-mapped array.

    python benchmarks/bench_store.py FOLDER [--cases 100] [--slices 200] [--subset 2000] [--keep]
    python benchmarks/bench_store.py --smoke

Generates chests (`jcl.data.phantom`) with scanner noise, every case moved about and with noise of its own, and writes
them to FOLDER: ours with all slices, the others with the first `--subset` of the same 12-bit codes. Everything is read
into batches of 16 float32 slices: ours by `jcl.data.batches.load_batches`, the others by a torch `DataLoader` with
workers as processes. What is not installed is left out, with a line that says so.

Each figure is that of a fresh process. Rates are those of the fastest of five passes, for the sake of a machine that
does other things too; "from disk" is one pass after the system was asked to forget the files. "CPU ms" is the
processor time of all passes and all processes, which depends less on what else runs.
Memory is the anonymous memory (what is not a file's page) of all processes of a row, that of PyTorch included.
"""

import argparse
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from jcl.data import phantom
from jcl.data.batches import SliceDataset, load_batches
from jcl.data.sampler import BatchSampler
from jcl.data.slicefile import SliceFile
from jcl.data.slices import list_slices
from jcl.data.store import Store
from jcl.data.store_writing import write_case, write_manifest

BATCH = 16
PASSES = 5
FLIPS = 40
Codes = Iterator[np.ndarray]
Reader = Callable[[int], np.ndarray]


def write_zarr(path: Path, count: int, size: int, codes: Codes) -> None:
    import zarr

    compressor = zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")
    array = zarr.create_array(
        path, shape=(count, size, size), chunks=(1, size, size), dtype="uint16", compressors=compressor
    )
    for number, pixels in enumerate(codes):
        array[number] = pixels


def open_zarr(path: Path) -> Reader:
    import zarr

    array = zarr.open_array(path, mode="r")
    return lambda number: array[number]


def write_tensorstore(path: Path, count: int, size: int, codes: Codes) -> None:
    import tensorstore

    codec = {"name": "blosc", "configuration": {"cname": "zstd", "clevel": 3, "shuffle": "shuffle"}}
    grid = {"name": "regular", "configuration": {"chunk_shape": [1, size, size]}}
    layout = {"shape": [count, size, size], "chunk_grid": grid, "data_type": "uint16", "codecs": [codec]}
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}, "metadata": layout, "create": True}
    array = tensorstore.open(spec).result()
    for number, pixels in enumerate(codes):
        array[number].write(pixels).result()


def open_tensorstore(path: Path) -> Reader:
    import tensorstore

    array = tensorstore.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}).result()
    return lambda number: array[number].read().result()


def write_blosc2(path: Path, count: int, size: int, codes: Codes) -> None:
    import blosc2

    packing = {"codec": blosc2.Codec.ZSTD, "clevel": 3, "filters": [blosc2.Filter.SHUFFLE]}
    options = {"urlpath": str(path), "mode": "w", "contiguous": True, "cparams": packing}
    shape = (1, size, size)
    array = blosc2.empty((count, size, size), dtype=np.uint16, chunks=shape, blocks=shape, **options)
    for number, pixels in enumerate(codes):
        array[number] = pixels


def open_blosc2(path: Path) -> Reader:
    import blosc2

    array = blosc2.open(str(path), mode="r")
    return lambda number: array[number]


def write_mapped(path: Path, count: int, size: int, codes: Codes) -> None:
    array = np.lib.format.open_memmap(path, "w+", np.uint16, (count, size, size))
    for number, pixels in enumerate(codes):
        array[number] = pixels
    array.flush()


def open_mapped(path: Path) -> Reader:
    array = np.load(path, mmap_mode="r")
    return lambda number: array[number]


def open_ours(path: Path) -> Reader:
    """Slices of all cases, as float32, by a number that counts through."""
    store = Store.open(path)
    places = [(case, at) for case, record in enumerate(store.cases) for at in range(record.slices)]
    return lambda number: store.image(*places[number])


OTHERS = {
    "zarr": ("zarr", write_zarr, open_zarr),
    "tensorstore": ("tensorstore", write_tensorstore, open_tensorstore),
    "blosc2": ("blosc2", write_blosc2, open_blosc2),
    "memory-mapped .npy": ("numpy", write_mapped, open_mapped),
}
OURS = "ours"
IN_PROCESSES = "ours, but workers as processes"


class Reading(Dataset[torch.Tensor]):
    """Slices of one of the others, as float32; opened in the process that reads."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.read: Reader | None = None

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.read is None:
            self.read = open_ours(self.path) if self.name == IN_PROCESSES else OTHERS[self.name][2](self.path)
        if self.name == IN_PROCESSES:
            return torch.from_numpy(self.read(index))
        image = np.multiply(self.read(index), np.float32(1 / 4095), dtype=np.float32, casting="unsafe")
        image += np.float32(0)
        return torch.from_numpy(image.reshape(1, *image.shape[-2:]))


def make_chests(size: int, slices: int, distinct: int = 2) -> tuple[list[np.ndarray], np.ndarray]:
    """Volumes in Hounsfield units, and a volume of noise to vary them with."""
    chests = [
        phantom.scan(phantom.draw_patient(0, number), size=size, slices=slices, field=330).image.astype(np.float32)
        for number in range(distinct)
    ]
    noise = np.random.default_rng(0).standard_normal((24, size, size), np.float32)
    return chests, noise


def write_ours(folder: Path, cases: int, slices: int, size: int) -> None:
    """Write the store: case k is a chest moved by some pixels, with its slices from another place on, and noise."""
    chests, noise = make_chests(size, max(4, slices // 4))
    (folder / "cases").mkdir(parents=True)
    random = np.random.default_rng(1)
    records = []
    for number in range(cases):
        chest, first = chests[number % len(chests)], int(random.integers(len(noise)))
        moved = np.roll(chest, random.integers(-12, 13, 2), (1, 2))
        image = np.empty((1, slices, size, size), np.float32)
        for at in range(slices):
            grain = np.roll(noise[(first + 7 * at) % len(noise)], int(random.integers(size)), 0)
            image[0, at] = np.clip((moved[at % len(moved)] + 8 * grain + 1000) / 1700, 0, 1)
        name = f"case_{number:03d}"
        record = write_case(folder, image, None, case=name, patient=name, spacing=(1.0, 0.7, 0.7), source={}, classes=0)
        records.append(record)
    write_manifest(folder, {"channels": 1, "padded": [size, size], "classes": []}, records, [])


def codes_of(store: Store, count: int) -> Codes:
    """The first slices of a store, as they are stored."""
    for record in store.cases:
        file = SliceFile(store.path / "cases" / record.case / "images.slices", record.digests["images.slices"])
        for number in range(min(record.slices, count)):
            yield file.read(number)[0]
        count -= min(record.slices, count)


def batches_of(name: str, path: Path, count: int, workers: int) -> Iterator[Any]:
    """Endless batches of the first `count` slices, in random order."""
    if name == OURS:
        store = Store.open(path)
        slices = list_slices([store], [None], labelled=False)
        order = BatchSampler([0] * min(count, len(slices)), BATCH, seed=0)
        return load_batches(SliceDataset([store], slices, labels=False), order, workers=workers)
    order = BatchSampler([0] * count, BATCH, seed=0)
    context = "spawn" if workers else None
    return iter(
        DataLoader(Reading(name, path), batch_sampler=order, num_workers=workers, multiprocessing_context=context)
    )


def family(process: int | str) -> list[int | str]:
    """A process and all that it started."""
    children = [(task / "children").read_text() for task in Path(f"/proc/{process}/task").iterdir()]
    return [process, *(one for child in " ".join(children).split() for one in family(int(child)))]


def memory_of(processes: Sequence[int | str]) -> int:
    """Anonymous memory of some processes, in MiB."""
    lines = [line for one in processes for line in Path(f"/proc/{one}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024


def processor_time_of(processes: Sequence[int | str]) -> float:
    """Seconds that some processes have computed."""
    fields = [Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split() for one in processes]
    return sum(int(entry[11]) + int(entry[12]) for entry in fields) / os.sysconf("SC_CLK_TCK")


def forget(path: Path) -> None:
    """Ask the system to drop the files' pages, so that the next reads come from the disk."""
    for file in [path] if path.is_file() else (file for file in path.rglob("*") if file.is_file()):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(name: str, path: Path, count: int, workers: int, reads: int) -> dict[str, float]:
    """Rate and memory of one way to read, in this process."""
    torch.set_num_threads(1)
    batches = batches_of(name, path, count, workers)
    for _ in range(8):  # the workers start, the first batches come from before
        next(batches)
    rates: list[float] = []
    processes = family("self")
    computed = processor_time_of(processes)
    for _ in range(PASSES):
        begun = time.perf_counter()
        for _ in range(reads // BATCH):
            next(batches)
        rates.append(reads // BATCH * BATCH / (time.perf_counter() - begun))
    computed = (processor_time_of(processes) - computed) / (PASSES * (reads // BATCH * BATCH))
    return {"rate": max(rates), "first": rates[0], "memory": memory_of(processes), "computed": 1000 * computed}


def measure_apart(*arguments: object) -> dict[str, float]:
    """`measure` in a fresh process."""
    code = "import sys, json, pathlib, bench_store as b; n, p, *m = json.loads(sys.argv[1]); "
    code += "print(json.dumps(b.measure(n, pathlib.Path(p), *m)))"
    command = [sys.executable, "-c", code, json.dumps([str(a) if isinstance(a, Path) else a for a in arguments])]
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def flip_bytes(name: str, folder: Path, codes: Sequence[np.ndarray]) -> str:
    """What reading does when one byte of the pixels' file has changed: how often it is detected, how often not."""
    path = folder / "flipped"
    remove(path)
    if name == OURS:
        image = np.stack(list(codes))[None].astype(np.float32)
        (path / "cases").mkdir(parents=True)
        record = write_case(path, image, None, case="a", patient="a", spacing=(1, 1, 1), source={}, classes=0)
        write_manifest(path, {"channels": 1, "padded": list(image.shape[2:]), "classes": []}, [record], [])
    else:
        OTHERS[name][1](path, len(codes), codes[0].shape[0], iter(codes))

    def read_all() -> list[np.ndarray]:
        read = open_ours(path) if name == OURS else OTHERS[name][2](path)
        return [np.array(read(number)) for number in range(len(codes))]

    whole = read_all()
    file = max(
        [path] if path.is_file() else (f for f in path.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size
    )
    content, detected, silent = file.read_bytes(), 0, 0
    for at in np.random.default_rng(0).integers(0, len(content), FLIPS):
        file.write_bytes(content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :])
        try:
            silent += any(not np.array_equal(a, b) for a, b in zip(read_all(), whole, strict=True))
        except Exception:
            detected += 1
    remove(path)
    return f"{detected} detected, {silent} silently wrong" + (
        f", {FLIPS - detected - silent} no matter" * (detected + silent < FLIPS)
    )


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="where the stores are written")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--slices", type=int, default=200, help="of a case")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--subset", type=int, default=2000, help="slices that the others are written with")
    parser.add_argument("--reads", type=int, default=480, help="slices read in a pass")
    parser.add_argument("--keep", action="store_true", help="leave the stores, for another run")
    parser.add_argument("--smoke", action="store_true", help="a small size, once: only whether it runs")
    options = parser.parse_args()
    if options.smoke:
        options.cases, options.slices, options.size, options.subset, options.reads = 2, 24, 64, 32, 32
    elif options.folder is None:
        parser.error("a folder is needed")
    with tempfile.TemporaryDirectory() as temporary:
        report(options.folder or Path(temporary), options)


def report(folder: Path, options: argparse.Namespace) -> None:
    begun = time.perf_counter()
    if not (folder / OURS / "store.json").exists():
        write_ours(folder / OURS, options.cases, options.slices, options.size)
        print(f"writing ours took {time.perf_counter() - begun:.0f} s")
    store = Store.open(folder / OURS)
    total = sum(record.slices for record in store.cases)
    stores = {f"{OURS}, all {total}": (OURS, folder / OURS, total)}
    if not options.smoke:
        stores[f"{OURS}, the first {options.subset}"] = (OURS, folder / OURS, options.subset)
    stores[IN_PROCESSES] = (IN_PROCESSES, folder / OURS, options.subset)
    for name, (module, write, _) in OTHERS.items():
        if importlib.util.find_spec(module) is None:
            print(f"{name}: not installed, left out")
            continue
        path = folder / name.replace(" ", "_")
        if not path.exists():
            write(path, options.subset, options.size, codes_of(store, options.subset))
        stores[name] = (name, path, options.subset)
    few = list(itertools.islice(codes_of(store, 20), 12, 16))
    print(f"{total} slices of {options.size} x {options.size}, torch {torch.__version__}\n")
    counts = (0, 1) if options.smoke else (0, 1, 2)
    each = " / ".join(map(str, counts))
    heads = [
        "store",
        f"slices/s, {each} workers",
        "the same from disk, 1",
        f"CPU ms per slice, {each}",
        f"MiB, {each} workers",
    ]
    print(f"| {' | '.join([*heads, 'of raw 16 bit', f'{FLIPS} bytes flipped'])} |\n{'|---' * (len(heads) + 2)}|")
    for title, (name, path, count) in stores.items():
        got = [measure_apart(name, path, count, workers, options.reads) for workers in counts]
        forget(path)
        cold = got[1] if options.smoke else measure_apart(name, path, count, 1, options.reads)
        rates, memory = (" / ".join(f"{row[key]:.0f}" for row in got) for key in ("rate", "memory"))
        computed = " / ".join(f"{row['computed']:.2f}" for row in got)
        share = size_of(path) / ((count if name in OTHERS else total) * options.size**2 * 2)
        flipped = flip_bytes(name if name in OTHERS else OURS, folder, few)
        cells = [title, rates, f"{cold['first']:.0f}", computed, memory, f"{share:.3f}", flipped]
        print(f"| {' | '.join(cells)} |", flush=True)
    if not options.keep:
        for _, path, _ in stores.values():
            remove(path)


if __name__ == "__main__":
    main()
