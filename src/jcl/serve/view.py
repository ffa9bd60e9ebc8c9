"""A scan as the page shows it: one channel in 16 bits, turned as all slices are, with what its axes are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

from jcl.data.geometry import Geometry
from jcl.data.intensities import Window

__all__ = ["View", "axis_letters", "write_view"]

LEVELS = 65535

LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))
"""Of x, y and z in LPS: towards what an axis runs, and where it comes from."""


@dataclass(frozen=True)
class View:
    """What a page has to know to show the voxels: value = offset + scale * stored.

    Attributes:
        shape: slices, rows, columns.
        spacing: of these, in mm.
        axes: towards what each of these runs: L, R, P, A, S or I.
        window: from black to white, in values: that of the preparation, else the 1st and 99th percentile.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    axes: tuple[str, str, str]
    offset: float
    scale: float
    window: tuple[float, float]


def write_view(
    path: Path, array: Float32[np.ndarray, "d h w"], geometry: Geometry, window: Window | None = None
) -> View:
    """Write the voxels as unsigned numbers of 16 bits (little endian), slice by slice; returns what they mean.

    With `window` it is the one shown at first.
    """
    low, high = float(array.min()), float(array.max())
    whole = high - low <= LEVELS and all(bool((plane == np.rint(plane)).all()) for plane in array)
    scale = 1.0 if whole else (high - low) / LEVELS
    with path.open("wb") as file:
        for plane in array:
            file.write(np.rint((plane.astype(np.float64) - low) / scale).astype("<u2").tobytes())
    if window is None:
        step = max(1, array.size // 1_000_000)
        first, last = np.percentile(array.reshape(-1)[::step], (1, 99))
        window = (float(first), float(last)) if last > first else (low, high)
    spacing = geometry.turned_spacing
    axes = axis_letters(geometry.matrices()[0])
    return View(geometry.shape, (spacing[0], spacing[1], spacing[2]), axes, low, scale, window)


def axis_letters(matrix: Float[np.ndarray, "4 4"]) -> tuple[str, str, str]:
    """Towards what slices, rows and columns run, each along the axis of the body that it is nearest to."""
    return _letter(matrix[:3, 0]), _letter(matrix[:3, 1]), _letter(matrix[:3, 2])


def _letter(direction: Sequence[float] | Float[np.ndarray, "3"]) -> str:
    axis = int(np.argmax(np.abs(np.asarray(direction))))
    return LETTERS[axis][int(direction[axis] < 0)]
