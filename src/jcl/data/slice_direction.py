"""The direction in which slices were taken: which volumes show an organ in one plane, and which in another.

A direction is a unit vector in LPS at right angles to the slices; which way it points along its line does not matter.
"""

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["TURNED", "Direction", "angle", "middle", "plane"]

Direction = Sequence[float]

NAMED = 0.8
"""A plane has the name of the body's axis that its direction has so large a part along (within 37 degrees)."""

TURNED = 45.0
"""Degrees between two directions from which on slices show another plane: half of what lies between one axis of the
body and the next. Short axes of hearts differ by less from their middle."""

PLANES = ("sagittal", "coronal", "axial")
"""By the axes of LPS."""


def angle(one: Direction, other: Direction) -> float:
    """Degrees between two lines, 0 to 90."""
    return math.degrees(math.acos(min(1.0, abs(float(np.dot(one, other))))))


def middle(directions: Sequence[Direction]) -> tuple[float, float, float]:
    """The line that lies nearest to all of some, by the squares of the angles' sines."""
    lines = np.asarray(directions, float).reshape(-1, 3)
    found = np.linalg.eigh(lines.T @ lines)[1][:, -1]
    found = found * (1 if found[np.abs(found).argmax()] > 0 else -1)  # the sign of an eigenvector is any
    return float(found[0]), float(found[1]), float(found[2])


def plane(direction: Direction) -> str:
    """`axial`, `coronal` or `sagittal`, or `oblique` for what is far from all three, as the heart's short axis is."""
    parts = np.abs(np.asarray(direction, float))
    return PLANES[int(parts.argmax())] if parts.max() > NAMED else "oblique"
