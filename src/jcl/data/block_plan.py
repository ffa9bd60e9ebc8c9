"""How often a network of three dimensions halves each side of a block: as nnU-Net plans it (Isensee et al., 2021)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jcl.errors import UsageError

__all__ = ["Block", "block_of", "check_block", "median_spacing", "plan_strides", "with_block"]

Block = tuple[int, int, int]
"""Slices, rows and columns."""

KEY = "block"
"""Of a preparation, where a network sees blocks."""

LEAST = 4
"""Voxels a side that halving may leave (nnU-Net's)."""

MOST_LEVELS = 4
"""As many as the paper's U-Net has."""

MOST_VOXELS = 2**27
"""512 a side: no network of today goes through more at a time."""


def check_block(block: Sequence[int]) -> Block:
    """A block as the user gave it.

    Raises:
        UsageError: it has a side of nothing, none that can be halved, or no machine could hold it.
    """
    slices, rows, columns = block
    words = f"block is {slices} {rows} {columns}"
    if min(block) < 1:
        raise UsageError(f"{words}; each of slices, rows and columns has to be at least 1")
    if max(block) < 2 * LEAST:
        raise UsageError(f"{words}; a side of at least {2 * LEAST} is needed, so that the network can halve it")
    if math.prod(block) > MOST_VOXELS:
        raise UsageError(f"{words}; at most {MOST_VOXELS} voxels can be meant")
    return slices, rows, columns


def plan_strides(spacing: tuple[float, float, float], block: Block) -> list[list[int]]:
    """By how much each level of a network halves slices, rows and columns, shallow to deep.

    A level halves each side that has `2 * LEAST` voxels or more left, if its voxels are less than twice as long as the
    shortest of such: thick slices are not pooled before the plane has caught up.

    Args:
        spacing: through-plane, row and column; mm.
        block: that the network sees.

    Example:
        >>> plan_strides((5.0, 1.0, 1.0), (16, 64, 64))
        [[1, 2, 2], [1, 2, 2], [2, 2, 2], [2, 2, 2]]
    """
    sides, lengths = list(block), list(spacing)
    strides: list[list[int]] = []
    while len(strides) < MOST_LEVELS and max(sides) >= 2 * LEAST:
        left = [axis for axis in range(3) if sides[axis] >= 2 * LEAST]
        shortest = min(lengths[axis] for axis in left)
        level = [2 if axis in left and lengths[axis] < 2 * shortest else 1 for axis in range(3)]
        strides.append(level)
        sides = [side // by for side, by in zip(sides, level, strict=True)]
        lengths = [length * by for length, by in zip(lengths, level, strict=True)]
    return strides


def median_spacing(spacings: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    """Median over cases of the spacing through the plane, of rows and of columns; mm."""
    through, row, column = np.median(np.array(spacings), axis=0).tolist()
    return through, row, column


def block_of(preparation: Mapping[str, Any]) -> Block | None:
    """The block that a network sees at a time; None for one that sees slices."""
    block = preparation.get(KEY)
    return None if block is None else (int(block[0]), int(block[1]), int(block[2]))


def with_block(preparation: Mapping[str, Any], block: Block | None) -> dict[str, Any]:
    """The preparation for a network that sees such blocks; unchanged for one that sees slices."""
    return dict(preparation) if block is None else {**preparation, KEY: list(block)}
