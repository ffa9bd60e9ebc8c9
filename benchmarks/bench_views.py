"""Four augmented views of a slice: each image by itself, as loaders usually do it, beside `jcl.augment.spatial`.

    python benchmarks/bench_views.py [--smoke]

The usual way is written with SciPy, and with Pillow where that is installed: one image after the other, rotation,
scaling and translation each a resampling of its own, or the three as one matrix. Ours draws and warps the views of
a whole batch at once; the time is that of four views of one slice all the same. One thread, and processor time: the
machine may do other things too.
"""

import argparse
import importlib.util
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from jcl.augment.intensity import IntensityRanges, jitter
from jcl.augment.spatial import AffineRanges, random_affine, warp

VIEWS = 4


def median_ms(run: Callable[[], object], repeats: int) -> float:
    """Median processor time of a call in milliseconds, after one call to warm up."""
    run()
    times: list[float] = []
    for _ in range(repeats):
        begun = time.process_time()
        run()
        times.append(time.process_time() - begun)
    return 1000 * statistics.median(times)


def draw(random: np.random.Generator) -> tuple[float, float, float, float]:
    """Angle in degrees, zoom, and shifts as a share of the side."""
    angle, zoom, x, y = random.uniform(-1, 1, 4)
    return 30 * angle, 1 + 0.3 * zoom, 0.1 * x, 0.1 * y


def scipy_three_steps(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Rotation, then scaling, then translation, each of them resampled."""
    angle, zoom, x, y = draw(random)
    centre = (np.array(image.shape) - 1) / 2
    turned = ndimage.rotate(image, angle, reshape=False, order=1)
    scaled = ndimage.affine_transform(turned, np.eye(2) / zoom, centre - centre / zoom, order=1)
    return ndimage.shift(scaled, (y * image.shape[0], x * image.shape[1]), order=1)


def scipy_one_matrix(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The three as one matrix: the best that a loop over images can do with SciPy."""
    angle, zoom, x, y = draw(random)
    c, s = math.cos(math.radians(angle)) / zoom, math.sin(math.radians(angle)) / zoom
    matrix, centre = np.array([[c, s], [-s, c]]), (np.array(image.shape) - 1) / 2
    offset = centre - matrix @ centre + (y * image.shape[0], x * image.shape[1])
    return ndimage.affine_transform(image, matrix, offset, order=1)


def pillow_three_steps(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Rotation, then scaling and translation, with the methods of Pillow's images."""
    from PIL import Image

    angle, zoom, x, y = draw(random)
    height, width = image.shape
    turned = Image.fromarray(image).rotate(angle, Image.Resampling.BILINEAR)
    across = (1 / zoom, 0, (1 - 1 / zoom) * width / 2, 0, 1 / zoom, (1 - 1 / zoom) * height / 2)
    scaled = turned.transform((width, height), Image.Transform.AFFINE, across, Image.Resampling.BILINEAR)
    shift = (1, 0, x * width, 0, 1, y * height)
    return np.asarray(scaled.transform((width, height), Image.Transform.AFFINE, shift, Image.Resampling.BILINEAR))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a small size, once: only whether it runs")
    parser.add_argument("--json", type=Path, help="also write the row to this file")
    options = parser.parse_args()
    size, repeats = (64, 1) if options.smoke else (512, 31)
    torch.set_num_threads(1)
    random, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    image = ndimage.gaussian_filter(random.random((size, size), np.float32), 2)
    views = torch.from_numpy(image).repeat(VIEWS, 1, 1, 1)
    batch = views.repeat(4, 1, 1, 1)

    def warped(images: torch.Tensor) -> torch.Tensor:
        return warp(images, random_affine(len(images), AffineRanges(), generator=generator))

    loops = {"SciPy, three steps": scipy_three_steps, "SciPy, one matrix": scipy_one_matrix}
    if importlib.util.find_spec("PIL"):
        loops["Pillow, three steps"] = pillow_three_steps
    rows: dict[str, float] = {}
    for name, once in loops.items():
        rows[name] = median_ms(lambda once=once: [once(image, random) for _ in range(VIEWS)], min(repeats, 9))
    rows["jcl.augment.spatial.warp"] = median_ms(lambda: warped(views), repeats)
    rows["jcl.augment.spatial.warp, batch of 16"] = median_ms(lambda: warped(batch), repeats) * VIEWS / len(batch)
    ranges = IntensityRanges()
    rows["jcl.augment.intensity.jitter (no counterpart)"] = median_ms(
        lambda: jitter(views, ranges, generator=generator), repeats
    )
    rows["copy of the images (floor)"] = median_ms(lambda: views.clone(), repeats)
    slow = rows["SciPy, three steps"]
    print(f"{VIEWS} views of a {size} x {size} slice, torch {torch.__version__}\n")
    print("| way | ms | faster than three steps of SciPy |\n|---|---|---|")
    for name, took in rows.items():
        print(f"| {name} | {took:.2f} | {slow / took:.1f} x |")
    if options.json:
        ours = rows["jcl.augment.spatial.warp"]
        row = {
            "row": "3",
            "name": f"{VIEWS} views of a {size} x {size} slice, one core, against three steps of SciPy",
            "theirs": slow,
            "ours": ours,
            "floor": rows["copy of the images (floor)"],
            "unit": "ms",
            "ratio": slow / ours,
            "goal": ">= 8 x",
        }
        options.json.write_text(json.dumps([row], indent=1) + "\n")


if __name__ == "__main__":
    main()
