"""The canvas of a generated volume, and the shapes that are painted on it.

Lengths are millimetres of an adult; coordinates x, y, z run to the patient's left, posterior and
superior, with the origin at the crux of the heart, where its septa meet the plane of the valves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from scipy.interpolate import PchipInterpolator

__all__ = ["Axes", "Canvas", "Coordinates", "ellipsoid", "smooth_field", "tube"]

Field = Float32[np.ndarray, "#d #h #w"]
Coordinates = tuple[Field, Field, Field]
"""x, y, z of every voxel, or in other axes."""
Point = Sequence[float | int] | Float[np.ndarray, "3"]


@dataclass(frozen=True)
class Axes:
    """Positions along the three axes of a volume, slices first."""

    z: Float32[np.ndarray, " d"]
    y: Float32[np.ndarray, " h"]
    x: Float32[np.ndarray, " w"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(d, h, w)."""
        return len(self.z), len(self.y), len(self.x)

    @property
    def coordinates(self) -> Coordinates:
        """The fields x (1, 1, w), y (1, h, 1) and z (d, 1, 1): together they broadcast to the volume."""
        return self.x[None, None, :], self.y[None, :, None], self.z[:, None, None]

    def box(self, centre: Point, reach: float) -> tuple[slice, slice, slice]:
        """The part of the volume within `reach` of x, y, z = `centre` along every axis."""
        sides = zip((self.z, self.y, self.x), (centre[2], centre[1], centre[0]), strict=True)
        bounds = [np.searchsorted(axis, (at - reach, at + reach)) for axis, at in sides]
        z, y, x = (slice(int(low), int(high)) for low, high in bounds)
        return z, y, x


@dataclass(frozen=True)
class Canvas:
    """Hounsfield units and labels of a volume, painted in place: what comes later lies on top."""

    hu: Float32[np.ndarray, "d h w"]
    label: UInt8[np.ndarray, "d h w"]

    def paint(
        self, mask: Bool[np.ndarray, "#d #h #w"], hu: float | Float[np.ndarray, "#d #h #w"], label: int = 0
    ) -> None:
        """Give the voxels of `mask` a density and a label."""
        np.copyto(self.hu, np.asarray(hu, np.float32), where=mask)
        np.copyto(self.label, np.uint8(label), where=mask)


def ellipsoid(at: Coordinates, centre: Point, semi: Point) -> Float32[np.ndarray, "d h w"]:
    """Squared distance from `centre` in units of the semi-axes `semi`: below 1 inside."""
    x, y, z = (
        np.square((field - np.float32(middle)) / np.float32(axis))
        for field, middle, axis in zip(at, centre, semi, strict=True)
    )
    return x + y + z


def tube(
    at: Coordinates, axes: Axes, points: Float[np.ndarray, "n 3"], radii: Sequence[float], reach: float
) -> Bool[np.ndarray, "d h w"]:
    """A vessel through `points`, of the radius `radii` at each; `at` differs from `axes` by up to `reach`."""
    inside = np.zeros(axes.shape, bool)
    steps = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    dense = np.arange(0.0, steps[-1], 0.35 * min(radii))
    course = PchipInterpolator(steps, np.column_stack([points, radii]))(dense)
    for x, y, z, radius in course:
        box = axes.box((x, y, z), radius + reach)
        local = at[0][box], at[1][box], at[2][box]
        inside[box] |= ellipsoid(local, (x, y, z), (radius, radius, radius)) < 1
    return inside


def smooth_field(shape: Sequence[int], knots: Sequence[int], rng: np.random.Generator) -> Float32[np.ndarray, "d h w"]:
    """A smooth random field of about unit variance: random values at `knots` points an axis, interpolated."""
    values = rng.standard_normal(tuple(knots)).astype(np.float32)
    for axis, (length, count) in enumerate(zip(shape, knots, strict=True)):
        place = np.linspace(0.0, count - 1.0, length, dtype=np.float32)[:, None]
        basis = np.exp(-0.5 * np.square((place - np.arange(count, dtype=np.float32)) / 0.7))
        basis /= np.sqrt(np.sum(np.square(basis), axis=1, keepdims=True))
        values = np.moveaxis(np.tensordot(basis, values, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(values)
