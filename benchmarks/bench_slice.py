"""Where the time goes that a slice of the store takes, beside what no reader of this format can save.

    python benchmarks/bench_slice.py [--smoke] [--sizes 64 128 256 512]

Each figure is the fastest of many calls, in processor time of one thread: the machine may do other things too. Reading
the frame from the system's cache, its SHA-256, zstd, joining low and high bytes, and intensities as float32; then
`Store.image` and `jcl.data.batches.SliceDataset.read`, which is what the loader's threads do, a slice of a batch of 16.
The floor is zstd alone and the bytes of the result at the rate at which memory is copied.
"""

import argparse
import hashlib
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import zstandard

from jcl.data import phantom
from jcl.data.batches import SliceDataset
from jcl.data.slicefile import ENTRY, HEADER
from jcl.data.slices import list_slices
from jcl.data.store import Store
from jcl.data.store_writing import write_case, write_manifest

SLICES = 16


def fastest_us(run: Callable[[int], object], repeats: int) -> float:
    """Fastest of many calls, each with another slice, in microseconds of processor time."""
    least = float("inf")
    for number in itertools.islice(itertools.cycle(range(SLICES)), repeats):
        begun = time.thread_time()
        run(number)
        least = min(least, time.thread_time() - begun)
    return 1e6 * least


def make_store(path: Path, size: int) -> Store:
    """One case of 16 slices of a generated chest, with its scanner noise."""
    (path / "cases").mkdir(parents=True)
    hounsfield = phantom.scan(phantom.draw_patient(0, 0), size=size, slices=24, field=330).image[:SLICES]
    image = (np.clip(hounsfield.astype(np.float32), -1000, 700)[None] + 1000) / 1700
    record = write_case(path, image, None, case="a", patient="a", spacing=(1, 1, 1), source={}, classes=0)
    write_manifest(path, {"channels": 1, "padded": [size, size], "classes": []}, [record], [])
    return Store.open(path)


def measure(store: Store, repeats: int) -> list[float]:
    """Microseconds of each part."""
    content = (store.path / "cases" / "a" / "images.slices").read_bytes()
    places = [ENTRY.unpack_from(content, HEADER.size + ENTRY.size * number)[:2] for number in range(SLICES)]
    frames = [content[offset : offset + size] for offset, size in places]
    pixels = store.size[0] * store.size[1]
    unpacker = zstandard.ZstdDecompressor()
    planes = np.frombuffer(unpacker.decompress(frames[0]), np.uint8)
    codes, result = np.zeros(pixels, np.uint16), np.zeros(pixels, np.float32)
    batch = SliceDataset([store], list_slices([store], [None], labelled=False), labels=False)

    def join(_: int) -> None:
        joined = planes[pixels:].astype(np.uint16)
        joined <<= 8
        joined |= planes[:pixels]

    def convert(_: int) -> None:
        result[...] = codes
        result.__imul__(np.float32(0.1)).__iadd__(np.float32(0.1))

    with (store.path / "cases" / "a" / "images.slices").open("rb") as file:
        parts: list[Callable[[int], object]] = [
            lambda number: (file.seek(places[number][0]), file.read(places[number][1])),
            lambda number: hashlib.sha256(frames[number]).digest(),
            lambda number: unpacker.decompress(frames[number]),
            join,
            convert,
            lambda number: store.image(0, number),
        ]
        times = [fastest_us(part, repeats) for part in parts]
    whole = fastest_us(lambda _: batch.read(range(SLICES)), max(1, repeats // SLICES)) / SLICES
    other = np.ones_like(result)
    copied = fastest_us(lambda _: np.copyto(result, other), repeats)
    return [*times, whole, times[2] + copied]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a small size, once: only whether it runs")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256, 512])
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes, repeats = ([64], 2) if options.smoke else (options.sizes, 1600)
    heads = ["slices", "read", "SHA-256", "zstd", "join", "to float32", "Store.image", "Slices.read", "floor"]
    print(f"microseconds a slice, zstd {zstandard.ZSTD_VERSION}\n\n| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            times = measure(make_store(Path(folder) / "store", size), repeats)
        print(f"| {size} x {size} | {' | '.join(f'{took:.0f}' for took in times)} |", flush=True)


if __name__ == "__main__":
    main()
