"""Dice, Jaccard, HD95 and ASD of a 512 x 512 x 200 case with 7 classes: `jcl.metrics` against `monai.metrics`.

Needs an environment with MONAI, numpy, scipy, torch and jaxtyping:

    PYTHONPATH=src python benchmarks/bench_metrics.py            # some minutes a repeat, nearly all MONAI's
    PYTHONPATH=src python benchmarks/bench_metrics.py --smoke    # a small case: checks the values, says little of speed

MONAI wants one-hot volumes; making them is timed by itself and not counted in the ratio, as a program
may have them anyway. Repeats alternate between the two; the median counts. Both use all the cores
that they can (`torch.set_num_threads` is left alone). The last lines say whether the values agree.
"""

import argparse
import importlib.util
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from jcl.metrics import METRICS, score_case

CLASSES = 7
SPACING = (1.0, 0.5, 0.5)
GOAL = 5.0


def make_truth(shape: tuple[int, int, int]) -> np.ndarray:
    """Seven ellipsoids of the size of heart chambers in a chest CT, as labels (d, h, w)."""
    random = np.random.default_rng(0)
    labels = np.zeros(shape, np.uint8)
    grid = np.ogrid[tuple(slice(n) for n in shape)]
    for value in range(1, CLASSES + 1):
        centre = random.uniform(0.32, 0.68, 3) * shape
        radius = random.uniform((0.12, 0.07, 0.07), (0.3, 0.16, 0.16)) * shape
        labels[sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radius, strict=True)) < 1] = value
    return labels


def make_prediction(truth: np.ndarray, *, shift: float, islands: int) -> np.ndarray:
    """The truth, bent by a smooth random field of `shift` voxels, with some stray islands."""
    random = np.random.default_rng(1)
    coarse = random.normal(0, shift, (3, 6, 10, 10))
    field = [ndimage.zoom(c, [n / m for n, m in zip(truth.shape, c.shape, strict=True)], order=1) for c in coarse]
    bent = np.stack([axis + f for axis, f in zip(np.indices(truth.shape, np.float32), field, strict=True)])
    labels = ndimage.map_coordinates(truth, bent, order=0)
    for _ in range(islands):
        corner = [int(random.integers(0, n - 4)) for n in truth.shape]
        labels[tuple(slice(c, c + 4) for c in corner)] = random.integers(1, CLASSES + 1)
    return labels


def with_jcl(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    scores = score_case(prediction, truth, classes=CLASSES, spacing=SPACING)
    return np.array([[values[metric] for metric in METRICS] for values in scores.values()], float)


def with_monai(prediction: torch.Tensor, truth: torch.Tensor) -> np.ndarray:
    """The same table from one-hot volumes."""
    from monai.metrics import (
        compute_average_surface_distance,
        compute_dice,
        compute_hausdorff_distance,
        compute_iou,
    )

    table = [
        compute_dice(prediction, truth, include_background=False),
        compute_iou(prediction, truth, include_background=False),
        compute_hausdorff_distance(prediction, truth, percentile=95, spacing=SPACING),
        compute_average_surface_distance(prediction, truth, symmetric=True, spacing=SPACING),
    ]
    return torch.cat(table).T.double().numpy()


def one_hot(labels: np.ndarray) -> torch.Tensor:
    from monai.networks.utils import one_hot as convert

    return convert(torch.from_numpy(labels)[None, None].long(), CLASSES + 1)


def timed(function: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def compare(name: str, prediction: np.ndarray, truth: np.ndarray, repeats: int) -> tuple[bool, dict[str, Any]]:
    """Print one row; whether the values agree to 1e-4, and the row."""
    start = time.perf_counter()
    hot = one_hot(prediction), one_hot(truth)
    making = time.perf_counter() - start
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(repeats):
        seconds, table = timed(lambda: with_jcl(prediction, truth))
        ours.append(seconds)
        seconds, reference = timed(lambda: with_monai(*hot))
        theirs.append(seconds)
    apart = float(np.abs(table - reference).max())
    size, shown = " x ".join(map(str, truth.shape[::-1])), f"values differ by {apart:.0e} at most"
    ratio = statistics.median(theirs) / statistics.median(ours)
    print(
        f"{name:<22} jcl {statistics.median(ours):7.3f} s   monai {statistics.median(theirs):7.2f} s"
        f" (+ {making:.1f} s one-hot)   ratio {ratio:5.1f} (goal {GOAL:g})   largest difference {apart:.1e}",
        flush=True,
    )
    return apart <= 1e-4, {
        "row": "9", "name": f"Dice, Jaccard, HD95, ASD of {size}, {CLASSES} classes, {name}, beside MONAI; {shown}",
        "theirs": statistics.median(theirs), "ours": statistics.median(ours), "floor": None, "unit": "s",
        "ratio": ratio, "goal": f">= {GOAL:g}",
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a small case")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    shape = (24, 64, 64) if options.smoke else (200, 512, 512)
    truth = make_truth(shape)
    print(f"{' x '.join(map(str, shape))}, {CLASSES} classes, {torch.get_num_threads()} threads")
    agree = True
    rows: list[dict[str, Any]] = []
    for name, shift, islands in (
        ("good prediction", 2.0, 0),
        ("with stray islands", 2.0, 40),
        ("poor prediction", 12.0, 40),
    ):
        prediction = make_prediction(truth, shift=shift, islands=islands)
        same, row = compare(name, prediction, truth, options.repeats)
        agree &= same
        rows.append(row)
    print("values agree to 1e-4" if agree else "VALUES DIFFER")
    if options.json and agree:  # what is faster with other values is no result
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if agree else 1


if __name__ == "__main__":
    if "--smoke" in sys.argv and importlib.util.find_spec("monai") is None:
        print("MONAI is not installed here: nothing to compare with, so nothing is timed")
        sys.exit(0)
    sys.exit(main())
