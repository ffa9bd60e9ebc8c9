"""Slices of DICOM files as a volume: sorted along their normal, whatever the files are called, and checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jcl.data.dicom.header import Header
from jcl.data.dicom.planes import Plane
from jcl.data.imagefile import MAX_VOXELS
from jcl.errors import DataError

__all__ = ["SAME_PLACE", "Slice", "Stack", "heights", "same_grid", "stack"]

SAME_PLACE = 1e-3
"""Two slices nearer to each other (mm) lie at one position."""

TURNED = 2e-3
"""Cosines of slices of one volume may differ by so much (0.1 degrees)."""

UNEVEN = 0.05
"""A gap between slices may differ by this share from the others: positions are rounded."""

SHIFTED = 0.5
"""Slices may lie beside each other by this share of a pixel."""


@dataclass(frozen=True)
class Slice:
    """One frame of a file."""

    header: Header
    frame: int

    @property
    def plane(self) -> Plane:
        """Where it lies."""
        return self.header.planes[self.frame]


@dataclass(frozen=True)
class Stack:
    """A volume's slices from the lowest along their normal on, and where they lie.

    Attributes:
        size, spacing, origin: per axis x (columns), y (rows), z (slices); voxels and mm.
        direction: cosines, row by row, in LPS.
    """

    slices: tuple[Slice, ...]
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]


def stack(headers: Sequence[Header]) -> Stack:
    """Sort the slices of a volume's files and check them.

    Raises:
        DataError: a file cannot be used, files are of several volumes, slices are missing, doubled,
            uneven or sheared.
    """
    if not headers:
        raise DataError("no DICOM files were given; a volume needs at least one")
    problems = [header.problem for header in headers if header.problem]
    if problems:
        raise DataError(problems[0] + (f" (and so {len(problems) - 1} more files)" if problems[1:] else ""))
    slices = [Slice(header, frame) for header in headers for frame in range(header.frames)]
    first = slices[0]
    for other in slices:
        if not same_grid(first, other):
            path = other.header.path
            raise DataError(
                f"{path}: its size, spacing or orientation is not that of {first.header.path.name}; part them"
            )
    rows, columns = first.header.rows, first.header.columns
    if len(slices) * rows * columns * first.header.samples > MAX_VOXELS:
        shown = f"{len(slices)} x {rows} x {columns}"
        raise DataError(f"{_folder(slices)}: {shown} voxels; at most {MAX_VOXELS:.3g} are supported")
    axes = _axes(first.plane)
    if len(slices) > 1:
        if missing := [part.header.path for part in slices if part.plane.position is None]:
            raise DataError(f"{missing[0]}: has no ImagePositionPatient, or no orientation; leave it out")
        places = heights(slices)
        order = np.argsort(places, kind="stable")
        slices = [slices[at] for at in order]
        step = _even_step(slices, places[order])
        _check_straight(slices, axes)
    else:
        step = first.plane.thickness or 1.0
    row_step, column_step = first.plane.spacing
    origin = slices[0].plane.position or (0.0, 0.0, 0.0)
    return Stack(
        slices=tuple(slices),
        size=(columns, rows, len(slices)),
        spacing=(column_step, row_step, step),
        origin=(origin[0], origin[1], origin[2]),
        direction=tuple(float(value) for value in axes.ravel()),
    )


def same_grid(one: Slice, other: Slice) -> bool:
    """Whether two slices can be of one volume by their size, spacing, orientation and colours."""
    a, b = one.header, other.header
    if (a.rows, a.columns, a.samples) != (b.rows, b.columns, b.samples):
        return False
    return (one.plane.position is None) == (other.plane.position is None) and all(
        abs(x - y) <= tolerance
        for x, y, tolerance in (
            *zip(one.plane.orientation, other.plane.orientation, (TURNED,) * 6, strict=True),
            *((x, y, 1e-3 * x) for x, y in zip(one.plane.spacing, other.plane.spacing, strict=True)),
        )
    )


def heights(slices: Sequence[Slice]) -> Float[np.ndarray, " n"]:
    """Place of each slice (mm) along the normal of the first; 0 where there is no position."""
    normal = _axes(slices[0].plane)[:, 2]
    return np.array([part.plane.position or (0.0, 0.0, 0.0) for part in slices]) @ normal


def _axes(plane: Plane) -> Float[np.ndarray, "3 3"]:
    """Directions of columns, rows and slices as the columns of a matrix, at right angles to each other."""
    row, column = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    column = column / np.linalg.norm(column)
    return np.stack([row, column, np.cross(row, column)], axis=1)


def _folder(slices: Sequence[Slice]) -> Path:
    return slices[0].header.path.parent


def _even_step(slices: Sequence[Slice], places: Float[np.ndarray, " n"]) -> float:
    """Spacing of sorted slices in mm."""
    gaps = np.diff(places)
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])

    def pair(at: int) -> str:
        one, other = slices[at].header.path, slices[at + 1].header.path
        return one.name if one == other else f"{one.name} and {other.name}"

    nearest = int(np.argmin(gaps))
    if gaps[nearest] < SAME_PLACE:
        raise DataError(f"{_folder(slices)}: two slices lie at one position ({pair(nearest)}); keep one volume")
    times = gaps / usual
    widest = int(np.argmax(np.abs(times - 1)))
    if abs(times[widest] - 1) > UNEVEN:
        shown = f"{pair(widest)} lie {gaps[widest]:.4g} mm apart, others {usual:.4g} mm"
        if np.all(np.abs(times - np.rint(times)) <= 2 * UNEVEN) and times.min() > 0.5:
            missing = round(float((np.rint(times) - 1).sum()))
            raise DataError(f"{_folder(slices)}: {missing} slices are missing ({shown}); add them or leave it out")
        raise DataError(f"{_folder(slices)}: the spacing of its slices varies ({shown}); resample it or leave it out")
    step = float(places[-1] - places[0]) / len(gaps)
    if np.abs(places - places[0] - step * np.arange(len(places))).max() > SHIFTED * step:
        raise DataError(f"{_folder(slices)}: the spacing of its slices varies along it; resample it or leave it out")
    return step


def _check_straight(slices: Sequence[Slice], axes: Float[np.ndarray, "3 3"]) -> None:
    """Each slice has to lie above the one before it: a tilted gantry shears the volume."""
    away = np.array([part.plane.position for part in slices]) - np.array(slices[0].plane.position)
    beside = away @ axes[:, :2]
    limit = SHIFTED * min(slices[0].plane.spacing)
    if np.abs(beside).max() <= limit:
        return
    share = np.linspace(0, 1, len(slices))[:, None]
    if np.abs(beside - share * beside[-1]).max() <= limit:
        angle = np.degrees(np.arctan2(np.linalg.norm(beside[-1]), away[-1] @ axes[:, 2]))
        raise DataError(
            f"{_folder(slices)}: sheared by a gantry tilt of {angle:.1f} degrees; correct it, as dcm2niix does, "
            "or leave it out"
        )
    worst = slices[int(np.abs(beside).max(axis=1).argmax())].header.path
    raise DataError(f"{worst}: lies {np.abs(beside).max():.3g} mm beside the first slice; part its volumes")
