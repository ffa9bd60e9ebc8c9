"""Affine matrices from voxel indices to places in mm: how far apart two of them lie, in voxels and in mm.

Tolerances of places are those of what moves: voxels. A share of a spacing, or the entries of a matrix, say nothing of
where the last voxel of a large image lies.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

__all__ = ["SAME", "SQUARE", "Affine", "Size", "apart", "skewed"]

Affine = Float[np.ndarray, "4 4"]
Size = tuple[int, int, int]

SAME = 0.1
"""Two statements of where voxels lie agree when no voxel moves by more of its own size."""

SQUARE = 0.5
"""Axes are at right angles when making them so moves no voxel by more of its own size: headers are rounded."""


def apart(
    found: Float[np.ndarray, "4 4"], expected: Float[np.ndarray, "4 4"], size: Sequence[int]
) -> tuple[float, float]:
    """How far the corners of a grid lie apart by two matrices.

    Args:
        found: indices to mm.
        expected: the same; its axes are those along which voxels are counted. It has to be invertible.
        size: voxels along each axis.

    Returns:
        The largest distance along an axis of `expected`, in voxels of that axis, and along one of space, in mm.
    """
    moved = (found - expected) @ _corners(size)
    voxels = np.linalg.solve(expected[:3, :3], moved[:3])
    return float(np.abs(voxels).max()), float(np.abs(moved[:3]).max())


def skewed(steps: Float[np.ndarray, "3 3"], size: Sequence[int]) -> float:
    """How far (voxels) a corner moves when the axes are brought to right angles; infinite where an axis has no length.

    Args:
        steps: from one voxel to the next along each axis, a column each; mm.
        size: voxels along each axis.
    """
    lengths = np.linalg.norm(steps, axis=0)
    if not np.isfinite(steps).all() or not (lengths > 0).all():
        return float("inf")
    left, stretch, right = np.linalg.svd(steps / lengths)
    if stretch[-1] < 1e-6:  # flat: two axes run along each other
        return float("inf")
    crooked, square = np.eye(4), np.eye(4)
    crooked[:3, :3], square[:3, :3] = steps, left @ right * lengths
    return apart(crooked, square, size)[0]


def _corners(size: Sequence[int]) -> Float[np.ndarray, "4 8"]:
    ends = np.meshgrid(*((0.0, n - 1.0) for n in size))
    return np.stack([*(axis.ravel() for axis in ends), np.ones(8)])
