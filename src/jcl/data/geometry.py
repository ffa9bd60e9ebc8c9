"""Where the voxels of a volume lie, and how it is turned to the one orientation that all slices have."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jcl.data.affine import SAME, apart
from jcl.data.imagefile import NiftiPlace
from jcl.data.sources import Source
from jcl.errors import DataError

__all__ = ["Geometry", "check_same_grid", "orientation", "same_grid"]

SLICE_DIRECTION = np.array([0.6, -0.6, 0.3])
"""The slice axis runs along it (left, posterior, superior), unless slices are axial: short axes to the apex."""

AXIAL = 0.8
"""Slices whose normal has so large a part along head and feet (within 37 degrees of it) are axial."""

HEAD = np.array([0.0, 0.0, 1.0])
"""Axial slices go towards it, however much they are tilted."""

BACK = np.array([0.0, 1.0, 0.0])
FEET = np.array([0.0, 0.0, -1.0])
"""Rows run to the back in axial slices, to the feet in all others; these two are not mixed, since between them lies a
direction to which neither axis of a short-axis slice is near, and half of such slices would come out turned."""

COLUMN_DIRECTION = np.array([0.8, 0.6, 0.0])
"""Columns run along it: to the left, or in sagittal slices to the back."""

COARSER = 1.25
"""An axis so many times coarser than the next is the one along which slices were taken."""


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a source lie, in its own axes (x, y, z as SimpleITK has them), and how it was turned.

    Attributes:
        size, spacing, origin: per axis; voxels and mm.
        direction: cosines, row by row, in LPS.
        suffix: of the file, with its dot.
        axes: which array axis (z, y, x) of the source became slices, rows and columns.
        flips: whether slices, rows and columns were reversed.
        picture: whether the source has two dimensions, and so one slice.
        nifti: what the header says, if the source is a NIfTI file.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    suffix: str
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    picture: bool = False
    nifti: NiftiPlace | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns on the source's own grid, after turning."""
        array = self.size[::-1]
        return (array[self.axes[0]], array[self.axes[1]], array[self.axes[2]])

    @property
    def turned_spacing(self) -> tuple[float, float, float]:
        """Through-plane, row and column spacing in mm; a picture has 1 mm through its plane."""
        array = (1.0 if self.picture else self.spacing[2], self.spacing[1], self.spacing[0])
        return (array[self.axes[0]], array[self.axes[1]], array[self.axes[2]])

    @property
    def affine(self) -> Float[np.ndarray, "4 4"]:
        """From indices along the source's own axes x, y, z to mm."""
        own = np.eye(4)
        own[:3, :3] = np.reshape(self.direction, (3, 3)) * self.spacing
        own[:3, 3] = self.origin
        return own

    @property
    def slice_direction(self) -> tuple[float, float, float] | None:
        """Unit vector in LPS at right angles to the slices, to a thousandth; None where the source states none."""
        if self.picture or (self.nifti is not None and not self.nifti.stated):
            return None
        matrix = np.reshape(self.direction, (3, 3))
        found = [round(float(part), 3) + 0.0 for part in matrix[:, 2 - self.axes[0]]]  # + 0.0: no -0.0
        return found[0], found[1], found[2]

    def matrices(self) -> list[Float[np.ndarray, "4 4"]]:
        """Matrices from slice, row and column to mm: one, and that of a statement of the header that was not taken."""
        own = self.affine
        stated = [own] if self.nifti is None or self.nifti.other is None else [own, self.nifti.other]
        turning = np.zeros((4, 4))
        turning[3, 3] = 1
        for turned, (axis, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            turning[2 - axis, turned] = -1 if flip else 1
            turning[2 - axis, 3] = self.size[2 - axis] - 1 if flip else 0
        return [matrix @ turning for matrix in stated]

    def turn(self, array: np.ndarray) -> np.ndarray:
        """A view of an array (..., z, y, x) of the source as (..., slices, rows, columns)."""
        turned = np.moveaxis(array, [axis - 3 for axis in self.axes], [-3, -2, -1])
        return np.flip(turned, tuple(axis - 3 for axis in range(3) if self.flips[axis]))

    def turn_back(self, array: np.ndarray) -> np.ndarray:
        """The inverse of `turn`."""
        turned = np.flip(array, tuple(axis - 3 for axis in range(3) if self.flips[axis]))
        return np.moveaxis(turned, [-3, -2, -1], [axis - 3 for axis in self.axes])


def orientation(
    matrix: Float[np.ndarray, "3 3"], spacing: Sequence[float], size: Sequence[int]
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Which array axes (z, y, x) are slices, rows and columns, and which of them run the other way.

    The slice axis is the only one of a single voxel; else the coarsest, when it is `COARSER` times
    coarser than the next; else the one nearest to head and feet.

    Args:
        matrix: direction cosines, a column for each axis x, y, z, in LPS.
        spacing, size: of the axes x, y, z.
    """
    directions = [matrix[:, axis] for axis in range(3)]
    by_spacing = sorted(range(3), key=lambda axis: spacing[axis])
    flat = [axis for axis in range(3) if size[axis] == 1]
    if len(flat) == 1:
        slices = flat[0]
    elif spacing[by_spacing[2]] >= COARSER * spacing[by_spacing[1]]:
        slices = by_spacing[2]
    else:
        slices = max(range(3), key=lambda axis: abs(directions[axis][2]))
    plane = [axis for axis in (1, 0, 2) if axis != slices]
    along, down = (HEAD, BACK) if abs(directions[slices][2]) > AXIAL else (SLICE_DIRECTION, FEET)
    rows = max(plane, key=lambda axis: abs(float(directions[axis] @ down)))
    columns = next(axis for axis in plane if axis != rows)
    wanted = ((slices, along), (rows, down), (columns, COLUMN_DIRECTION))
    flips = [float(directions[axis] @ direction) < 0 for axis, direction in wanted]
    return (2 - slices, 2 - rows, 2 - columns), (flips[0], flips[1], flips[2])


def same_grid(found: Geometry, expected: Geometry) -> bool:
    """Whether two images have as many voxels along each turned axis, in the same places (to a tenth of a voxel)."""
    return found.shape == expected.shape and _apart(found, expected)[0] <= SAME


def check_same_grid(source: Source, found: Geometry, other: Path | str, expected: Geometry) -> None:
    """Check that the voxels of `source`, turned, lie where those of `other` do.

    Raises:
        DataError: the size differs, or a corner lies elsewhere.
    """
    if same_grid(found, expected):
        return
    if found.shape != expected.shape:
        sizes = [" x ".join(map(str, part.size[: 2 if part.picture else 3])) for part in (found, expected)]
        raise DataError(f"{source}: its size is {sizes[0]}, that of {other} is {sizes[1]}; they have to be on one grid")
    raise DataError(
        f"{source}: lies {_apart(found, expected)[1]:.3g} mm apart from {other} (origin, spacing or direction differ); "
        "correct its header"
    )


def _apart(found: Geometry, expected: Geometry) -> tuple[float, float]:
    """How far (voxels, mm) corners lie apart by those statements of the two headers that agree best."""
    pairs = itertools.product(found.matrices(), expected.matrices())
    return min(apart(one, other, expected.shape) for one, other in pairs)
