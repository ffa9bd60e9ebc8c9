"""Directions of slices, beside a search over the sphere and the names that radiologists give."""

import math

import numpy as np
import pytest

from jcl.data.slice_direction import angle, middle, plane


@pytest.mark.parametrize(
    ("one", "other", "degrees"),
    [
        ((0, 0, 1), (0, 0, 1), 0.0),
        ((0, 0, 1), (0, 0, -1), 0.0),  # a line has no end
        ((0, 0, 1), (0, 1, 0), 90.0),
        ((0, 0, 1), (0, math.sin(0.3), math.cos(0.3)), math.degrees(0.3)),
        ((0, 0, 1), (0, -math.sin(0.3), -math.cos(0.3)), math.degrees(0.3)),
        ((0.0, 0.0, 1.0005), (0.0, 0.0, 1.0005), 0.0),  # rounded to a thousandth
    ],
)
def test_angle(one: tuple[float, ...], other: tuple[float, ...], degrees: float) -> None:
    assert angle(one, other) == pytest.approx(degrees, abs=1e-6)


def test_the_middle_is_the_nearest_of_all_lines_tried() -> None:
    random = np.random.default_rng(0)
    lines = np.array([0.6, -0.6, 0.5]) + random.normal(0, 0.2, (7, 3))
    lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    lines *= random.choice([-1, 1], (7, 1))
    tried = random.normal(0, 1, (20_000, 3))
    tried /= np.linalg.norm(tried, axis=1, keepdims=True)
    found = np.array(middle(lines.tolist()))
    assert np.linalg.norm(found) == pytest.approx(1)
    squares = 1 - (np.vstack([found, tried]) @ lines.T) ** 2
    assert squares.sum(axis=1).argmin() == 0
    assert angle(found.tolist(), tried[squares[1:].sum(axis=1).argmin()].tolist()) < 3


@pytest.mark.parametrize(
    ("direction", "name"),
    [
        ((0, 0, 1), "axial"),
        ((0, 0, -1), "axial"),
        ((0, 1, 0), "coronal"),
        ((-1, 0, 0), "sagittal"),
        ((0, 0.5, 0.866), "axial"),  # tilted by 30 degrees, as the gantry is
        ((0.6, -0.6, 0.53), "oblique"),  # short axis
    ],
)
def test_plane(direction: tuple[float, ...], name: str) -> None:
    assert plane(direction) == name
