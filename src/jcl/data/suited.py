"""What a set's spacings and sizes suit: slices by themselves, slices with neighbours, or blocks."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jcl.data.block_plan import LEAST, Block, median_spacing
from jcl.data.manifest import CaseRecord
from jcl.data.resampling import fit_of

__all__ = ["Suited", "ct_window", "one_spacing", "suited"]

THICK = 3.0
"""Slices thicker than so many of their pixels are seen one by one: nnU-Net's limit of what is not isotropic."""

FEWEST = 2 * LEAST
"""Slices that a network can halve once."""

NEIGHBOURED = 3
"""Slices that a slice with one neighbour on each side takes."""

SIDE = 32
"""Voxels of a block's rows and columns, where the volume has them; as many mm are its slices. In short trainings many
steps on small blocks beat few on large ones (benchmarks/blocks_trial.py; docs/three-dimensions.md)."""

THIN = 0.5
"""Of a pixel: thinner slices show a block less than it could see, at the same cost."""

VARIED = 1.5
"""Times that the pixels of a set may differ; augmentation shows a network structures 1.4 times as large or small."""

STEP, STEP_THROUGH = 16, 8
"""The sides of a block are multiples of these."""


@dataclass(frozen=True)
class Suited:
    """How a set's volumes are best seen at first, and why."""

    settings: str
    """As they are given to `jcl pretrain` and `jcl finetune`; none for slices by themselves."""
    reason: str

    def __str__(self) -> str:
        how = f"{self.settings}: " if self.settings else "slices one by one (no setting): "
        return f"suggested to begin with: {how}{self.reason}"


def suited(cases: Sequence[CaseRecord]) -> Suited:
    """A start, by the medians over the cases.

    1. Volumes of one slice, or of slices more than `THICK` times as thick as their pixels: slices one by one.
    2. Thin slices, but fewer than a network can halve: each with a neighbour on either side, if there are three.
    3. All others: blocks of 32 x 32 pixels and about as long through the plane in mm, no larger than the volume; slices
       thinner than `THIN` of their pixels had better be resampled first.
    """
    slices = round(statistics.median(record.slices for record in cases))
    shape = tuple(round(statistics.median(record.shape[axis] for record in cases)) for axis in range(2))
    through, row, column = median_spacing([record.spacing for record in cases])
    pixel = (row * column) ** 0.5
    times = through / pixel
    if slices == 1:
        return Suited("", "its volumes have a single slice")
    if times > THICK:
        return Suited(
            "", f"its slices are {times:.1f} times as thick as their pixels ({through:.3g} mm, {pixel:.3g} mm)"
        )
    thin = f"{slices} slices, {times:.1f} times as thick as their pixels"
    if slices < NEIGHBOURED:
        return Suited("", f"a volume has {thin}: too few for more")
    if slices < FEWEST:
        return Suited("--context 1", f"a volume has {thin}: too few for blocks")
    depth, rows, columns = _block(slices, (shape[0], shape[1]), times)
    if times < THIN:
        thin += f" (prepared with --spacing-through {pixel:.2g}, a block would show more of it)"
    return Suited(f"--backbone unet3d --block {depth} {rows} {columns}", f"a volume has {thin}")


def one_spacing(preparation: Mapping[str, Any], cases: Sequence[CaseRecord]) -> str | None:
    """A line on a set that had better be resampled to one spacing in plane, as nnU-Net does with all; else None."""
    pixels = [math.sqrt(record.spacing[1] * record.spacing[2]) for record in cases]
    low, median, high = min(pixels), statistics.median(pixels), max(pixels)
    if preparation["spacing"] is not None or fit_of(preparation) or high / low <= VARIED:
        return None
    return (
        f"suggested: --spacing {median:.2g}, the median: pixels are {low:.3g} to {high:.3g} mm apart,"
        " and what is not resampled is so much larger in one scan than in another"
    )


def ct_window(preparation: Mapping[str, Any], cases: Sequence[CaseRecord]) -> str | None:
    """A line on a set of CT, whose values have a unit, that is clipped to percentiles of each scan; else None."""
    stated = {record.modality for record in cases}
    if "window" in preparation or not (stated == {"CT"} or preparation["modality"].upper() == "CT"):
        return None
    return (
        "CT, clipped to percentiles of each scan: --window LOW HIGH clips to Hounsfield units in their place, as "
        "-160 240 for soft tissue, so that a value looks alike in every scan"
    )


def _block(slices: int, shape: tuple[int, int], times: float) -> Block:
    rows, columns = (min(SIDE, -(-side // STEP) * STEP) for side in shape)
    depth = max(STEP_THROUGH, round(SIDE / times / STEP_THROUGH) * STEP_THROUGH)
    return min(SIDE, depth, -(-slices // STEP_THROUGH) * STEP_THROUGH), rows, columns
