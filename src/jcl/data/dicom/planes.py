"""Where the images of a DICOM file lie: position, orientation, spacing and scale of each of its frames."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from jcl.data.affine import SQUARE, skewed

__all__ = ["MARKS", "Plane", "read_planes", "text"]

MARKS = {
    "EchoNumbers": "echo",
    "EchoTime": "te",
    "TemporalPositionIdentifier": "time",
    "DiffusionBValue": "b",
    "PrivateBValue": "b",
    "DiffusionGradientOrientation": "gradient",
    "ImageType": "type",
    "InversionTime": "ti",
    "AcquisitionNumber": "acquisition",
    "TriggerTime": "phase",
    "AcquisitionTime": "acquired",
}
"""What may part the volumes of one series, the plainest first, and what their names call it."""

PRIVATE_B_VALUE = 0x0019100C

NEAREST, FARTHEST = 1e-4, 1e4
"""Spacings in mm that a scan may have."""

UNIT = 0.1
"""The length of a direction may differ from 1 by so much: only where it points counts."""


UNMAPPED = ("1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.12.2", "1.2.840.10008.5.1.4.1.1.12.3")
"""X-ray angiography and fluoroscopy, whose tables lead back to the intensity of the beam and are not used."""


@dataclass(frozen=True)
class Plane:
    """One frame, in LPS and mm.

    Attributes:
        position: of the centre of the first pixel; None for a projection or a photograph, which have none.
        orientation: directions along a row, then along a column.
        spacing: between rows, then between columns.
        thickness: of a slice, else what is between slices, as the file says it, which often is wrong; None if it does
            not.
        between: what SpacingBetweenSlices says, if it is there.
        slope, intercept: make a stored value a rescaled one.
        marks: what may part the volumes of a series (keys of `MARKS`).
    """

    position: tuple[float, ...] | None
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    thickness: float | None
    between: float | None
    slope: float
    intercept: float
    marks: Mapping[str, str] = field(default_factory=dict[str, str])


def text(dataset: Dataset, name: str | int) -> str:
    """A value as one line of text; several values joined as DICOM has them; empty if missing or unreadable."""
    try:
        return _joined(dataset, name)
    except Exception:  # of any type: values are only now decoded
        return ""


def _joined(dataset: Dataset, name: str | int) -> str:
    # By tag: an element that is missing is found to be so much faster than by name.
    tag = _tag(name)
    if tag not in dataset:
        return ""
    value: Any = dataset[tag].value
    parts = cast("list[Any]", value if hasattr(value, "append") else [value])
    return " ".join("\\".join(str(part) for part in parts if part is not None).replace("\0", " ").split())


@cache
def _tag(name: str | int) -> BaseTag:
    return Tag(name)


def read_planes(dataset: Dataset, frames: int, size: tuple[int, int]) -> tuple[Plane, ...] | str:
    """One plane a frame, or why there is none: half a line that says what to do.

    Frames need a position each in PerFrameFunctionalGroupsSequence (enhanced multi-frame); other files
    of several frames are films.
    """
    try:
        return _read_planes(dataset, frames, size)
    except ValueError as error:
        return str(error)


def _read_planes(dataset: Dataset, frames: int, size: tuple[int, int]) -> tuple[Plane, ...]:
    groups = _items(dataset, "PerFrameFunctionalGroupsSequence")
    if not groups and frames == 1:
        return (_plane(dataset, size),)
    if len(groups) != frames:
        raise ValueError(f"holds {frames} frames, and a position for {len(groups)}; convert it to one slice a file")
    shared = next(iter(_items(dataset, "SharedFunctionalGroupsSequence")), Dataset())
    return tuple(_frame(group, shared, size) for group in groups)


def _plane(dataset: Dataset, size: tuple[int, int]) -> Plane:
    position = _numbers(dataset, "ImagePositionPatient", 3)
    orientation = _numbers(dataset, "ImageOrientationPatient", 6)
    if position is None or orientation is None:
        position, orientation = None, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    marks = {name: text(dataset, PRIVATE_B_VALUE if name == "PrivateBValue" else name) for name in MARKS}
    spacing = _pixel_spacing(dataset)
    return Plane(position, _checked(orientation, spacing, size), spacing, *_common(dataset, dataset), marks)


def _frame(group: Dataset, shared: Dataset, size: tuple[int, int]) -> Plane:
    """A frame of an enhanced file; what it does not say itself is said for all frames."""

    def part(name: str) -> Dataset:
        return next((item for owner in (group, shared) for item in _items(owner, name)), Dataset())

    position = _numbers(part("PlanePositionSequence"), "ImagePositionPatient", 3)
    orientation = _numbers(part("PlaneOrientationSequence"), "ImageOrientationPatient", 6)
    if position is None or orientation is None:
        raise ValueError("its frames have no position or orientation; convert it to one slice a file")
    measures = part("PixelMeasuresSequence")
    values = part("PixelValueTransformationSequence")
    spacing = _pixel_spacing(measures)
    return Plane(position, _checked(orientation, spacing, size), spacing, *_common(measures, values))


def _common(measures: Dataset, values: Dataset) -> tuple[float | None, float | None, float, float]:
    """Thickness, distance, slope and intercept."""
    between, thick = (_distance(measures, name) for name in ("SpacingBetweenSlices", "SliceThickness"))
    thickness = thick or between
    if _items(values, "ModalityLUTSequence") and text(values, "SOPClassUID") not in UNMAPPED:
        raise ValueError(
            "its values are mapped by a table (ModalityLUTSequence), which is not supported; convert it to NIfTI"
        )
    slope = (_numbers(values, "RescaleSlope", 1) or (1.0,))[0]
    intercept = (_numbers(values, "RescaleIntercept", 1) or (0.0,))[0]
    if slope == 0 or abs(slope) > 1e30 or abs(intercept) > 1e30:
        raise ValueError(f"its RescaleSlope is {slope:g}, its RescaleIntercept {intercept:g}; correct or replace it")
    return thickness, between, slope, intercept


def _distance(measures: Dataset, name: str) -> float | None:
    """A distance along the normal in mm, without the sign that some give it; None if it cannot be."""
    try:
        found = _numbers(measures, name, 1)
    except ValueError:  # positions say it
        return None
    return abs(found[0]) if found and NEAREST <= abs(found[0]) <= FARTHEST else None


def _pixel_spacing(dataset: Dataset) -> tuple[float, ...]:
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        if spacing := _numbers(dataset, name, 2):
            break
    else:
        spacing = _ultrasound_spacing(dataset)
        if spacing is None:
            raise ValueError("has no PixelSpacing, nor ImagerPixelSpacing; add it to the header or leave it out")
    if not all(NEAREST <= value <= FARTHEST for value in spacing):
        raise ValueError(f"its pixel spacing is {spacing[0]:g} x {spacing[1]:g} mm; correct its header")
    return spacing


def _ultrasound_spacing(dataset: Dataset) -> tuple[float, ...] | None:
    """Spacing of the only region of an ultrasound image; in the file it is in cm (unit 3)."""
    regions = _items(dataset, "SequenceOfUltrasoundRegions")
    if len(regions) != 1 or any(text(regions[0], f"PhysicalUnits{axis}Direction") != "3" for axis in "XY"):
        return None
    rows, columns = (_numbers(regions[0], f"PhysicalDelta{axis}", 1) for axis in "YX")
    return (abs(10 * rows[0]), abs(10 * columns[0])) if rows and columns else None


def _checked(orientation: tuple[float, ...], spacing: tuple[float, ...], size: tuple[int, int]) -> tuple[float, ...]:
    """The orientation, if its directions are at right angles as far as an image of this size shows it."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.array([np.linalg.norm(row), np.linalg.norm(column)])
    fits = bool((np.abs(lengths - 1) <= UNIT).all())
    if fits:
        row, column = row / lengths[0], column / lengths[1]
        steps = np.stack([row * spacing[1], column * spacing[0], np.cross(row, column)], axis=1)
        fits = skewed(steps, (max(size[1], 1), max(size[0], 1), 1)) <= SQUARE
    if not fits:
        shown = ", ".join(f"{value:g}" for value in orientation)
        raise ValueError(f"its ImageOrientationPatient has no two unit vectors at right angles ({shown}); correct it")
    return orientation


def _items(dataset: Dataset, name: str) -> list[Dataset]:
    try:
        value: Any = dataset.get(name)
    except Exception as error:  # of any type: values are only now decoded
        raise ValueError(f"its {name} cannot be read; correct its header") from error
    items = cast("list[Any]", value if hasattr(value, "append") else [])
    return [item for item in items if isinstance(item, Dataset)]


def _numbers(dataset: Dataset, name: str, count: int) -> tuple[float, ...] | None:
    """So many finite numbers, or None if the element is missing or empty.

    Raises:
        ValueError: there are others.
    """
    try:
        found = _joined(dataset, name)
    except Exception as error:  # of any type: values are only now decoded
        raise ValueError(f"its {name} cannot be read; correct its header") from error
    if not found:
        return None
    try:
        values = tuple(float(part) for part in found.split("\\"))
    except ValueError:
        values = ()
    if len(values) != count or not all(math.isfinite(value) for value in values):
        raise ValueError(f"its {name} is {found[:60]!r}, where {count} finite numbers are needed; correct its header")
    return values
