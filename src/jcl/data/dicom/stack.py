"""Slices of DICOM files as a volume: sorted along their normal, whatever the files are called, and checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer

from jcl.data.affine import SAME, apart
from jcl.data.dicom.header import Header
from jcl.data.dicom.planes import Plane
from jcl.data.imagefile import MAX_VOXELS, check_memory
from jcl.errors import DataError

__all__ = ["Slice", "Stack", "heights", "same_grid", "same_place", "sort_slices"]

SAME_PLACE = 0.02
"""Two slices nearer to each other (mm, but no more than a tenth of a pixel) lie at one position: those are rounded."""

TURNED = 1.0
"""Pixels by which a corner of slices of one volume may move where their orientation or spacing differs: both are
rounded."""

UNEVEN = 0.1
"""Slices may lie beside an even grid by this share of their distance."""

ROUNDED, LARGEST = 0.06, 0.25
"""Or by so much (mm), since positions are rounded to a tenth of a millimetre; but not by more than this share."""

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
        notes: what was taken where headers say two things of it.
    """

    slices: tuple[Slice, ...]
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    notes: tuple[str, ...] = ()


def sort_slices(headers: Sequence[Header]) -> Stack:
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
    check_memory(_folder(slices), len(slices) * rows * columns * first.header.samples, first.header.allocated / 8)
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
        notes=_notes(slices, step),
    )


def same_grid(one: Slice, other: Slice) -> bool:
    """Whether two slices can be of one volume by their size, spacing, orientation and colours."""
    a, b = one.header, other.header
    if (a.rows, a.columns, a.samples) != (b.rows, b.columns, b.samples):
        return False
    if (one.plane.position is None) != (other.plane.position is None):
        return False
    first, second = _steps(one.plane), _steps(other.plane)
    return bool(np.array_equal(first, second)) or apart(second, first, (a.columns, a.rows, 1))[0] <= TURNED


def _steps(plane: Plane) -> Float[np.ndarray, "4 4"]:
    """From column and row to mm beside the first pixel; off the plane, pixels are as large as they are in it."""
    steps = np.eye(4)
    steps[:3, :3] = _axes(plane) * (plane.spacing[1], plane.spacing[0], min(plane.spacing))
    return steps


def heights(slices: Sequence[Slice]) -> Float[np.ndarray, " n"]:
    """Place of each slice (mm) along the normal of the first; 0 where there is no position."""
    normal = _axes(slices[0].plane)[:, 2]
    return np.array([part.plane.position or (0.0, 0.0, 0.0) for part in slices]) @ normal


def same_place(plane: Plane) -> float:
    """Distance (mm) below which two slices on the grid of this one lie at one position."""
    return min(SAME_PLACE, SAME * min(plane.spacing))


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
    if gaps[nearest] < same_place(slices[0].plane):
        raise DataError(f"{_folder(slices)}: two slices lie at one position ({pair(nearest)}); keep one volume")
    beside, allowed = _beside_even(np.arange(len(places)), places)
    if beside <= allowed:
        return float(places[-1] - places[0]) / len(gaps)
    widest = int(np.argmax(np.abs(gaps - usual)))
    shown = f"{pair(widest)} lie {gaps[widest]:.4g} mm apart, others {usual:.4g} mm"
    times = np.rint(gaps / usual)
    missing = int(times.sum()) - len(gaps)
    with_gaps, allowed = _beside_even(np.concatenate([[0], np.cumsum(times)]), places)
    if missing > 0 and times.min() >= 1 and with_gaps <= allowed:
        raise DataError(f"{_folder(slices)}: {missing} slices are missing ({shown}); add them or leave it out")
    raise DataError(
        f"{_folder(slices)}: the spacing of its slices varies ({shown}; up to {beside:.2g} mm beside an even grid); "
        "resample it or leave it out"
    )


def _beside_even(
    numbers: Integer[np.ndarray, " n"] | Float[np.ndarray, " n"], places: Float[np.ndarray, " n"]
) -> tuple[float, float]:
    """How far (mm) slices of these numbers lie beside the even grid that fits best, and how far they may."""
    step, start = np.polyfit(numbers, places, 1)
    allowed = max(UNEVEN * step, min(ROUNDED, LARGEST * step))
    return float(np.abs(places - start - step * numbers).max()), float(allowed)


def _notes(slices: Sequence[Slice], step: float) -> tuple[str, ...]:
    between = slices[0].plane.between
    if between is None or len(slices) == 1 or abs(between - step) <= SAME * step:
        return ()
    said = f"SpacingBetweenSlices is {between:.4g} mm, but positions lie {step:.4g} mm apart"
    return (f"{_folder(slices)}: {said}; the positions were taken",)


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
