"""Where the voxels of a NIfTI file lie. Its header says so in up to three ways, which are compared here.

The sform is a matrix, the qform a rotation that goes with pixdim, the spacing. Readers believe one of them, not all the
same one, and do not say that another one disagrees.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jcl.data.affine import SAME, SQUARE, apart, skewed
from jcl.data.imagefile.claims import check_square
from jcl.data.notes import note
from jcl.errors import DataError

__all__ = ["NiftiPlace", "nifti_place"]

Matrix = Float[np.ndarray, "4 4"]

TEMPLATES = {3: "Talairach", 4: "MNI", 5: "another template"}
"""Codes of an sform that leads from the patient to an atlas."""

UNITS = {1: 1000.0, 3: 0.001}
"""Codes of metres and micrometres, in mm; all others are taken for mm."""

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""NIfTI counts to the right and to the front; here, as in DICOM, places are to the left and to the back."""


@dataclass(frozen=True, eq=False)
class NiftiPlace:
    """Place of the voxels, in LPS and mm.

    Attributes:
        spacing: along x, y and z.
        origin: of the first voxel.
        direction: unit vectors of the axes, a column each.
        header: the file's first 352 bytes.
        other: matrix of the form that was not taken, where it leads elsewhere.
        stated: whether the header has a form; without one the axes are taken for the patient's.
    """

    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: Float[np.ndarray, "3 3"]
    header: bytes
    other: Matrix | None = None
    stated: bool = True


@dataclass(frozen=True, eq=False)
class _Said:
    """What a header says, in its own units and to the right and to the front; forms with the code 0 say nothing."""

    size: tuple[int, int, int]
    pixdim: tuple[float, float, float]
    qform: Matrix | None
    sform: Matrix | None
    sform_code: int


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # of a corrupt header; what comes of it is checked
def nifti_place(path: Path, header: bytes) -> NiftiPlace:
    """The place that a header states, with a note of what was taken where two statements differ by more than `SAME`.

    The sform is taken, as FSL, FreeSurfer and nibabel do, but not one that is skewed or leads to a template where there
    is a qform. The spacing is pixdim, but where the sform has another.

    Raises:
        DataError: the forms mirror each other, or there is none whose axes are at right angles.
    """
    order = "<" if header[:4] == struct.pack("<i", 348) else ">"
    said = _read(order, header)
    taken, other = _taken(path, said)
    scale = UNITS.get(header[123] & 7, 1.0)
    if taken is None:  # as ITK has it
        spacing = tuple(scale * value for value in said.pixdim)
        return NiftiPlace((spacing[0], spacing[1], spacing[2]), (0.0, 0.0, 0.0), np.eye(3), header, stated=False)
    check_square(path, taken[:3, :3], said.size)
    spacing = [scale * value for value in _spacing(path, said, taken)]
    taken = LPS @ taken
    origin = [scale * float(value) for value in taken[:3, 3]]
    direction = taken[:3, :3] / np.linalg.norm(taken[:3, :3], axis=0)
    if other is not None:
        other = np.diag([scale, scale, scale, 1.0]) @ LPS @ other
    return NiftiPlace((spacing[0], spacing[1], spacing[2]), (origin[0], origin[1], origin[2]), direction, header, other)


def _read(order: str, header: bytes) -> _Said:
    rank, *dims = struct.unpack_from(f"{order}8h", header, 40)
    size = [*dims[: min(rank, 3)], 1, 1][:3]
    stated = struct.unpack_from(f"{order}8f", header, 76)
    qform_code, sform_code = struct.unpack_from(f"{order}2h", header, 252)
    sform = np.vstack([np.reshape(struct.unpack_from(f"{order}12f", header, 280), (3, 4)), [0.0, 0.0, 0.0, 1.0]])
    lengths = np.linalg.norm(sform[:3, :3], axis=0) if sform_code > 0 else np.zeros(3)
    # An axis that the image does not have may have any spacing, 0 too.
    pixdim = [
        value if axis < rank else float(lengths[axis]) or (value if 0 < value < math.inf else 1.0)
        for axis, value in enumerate(stated[1:4])
    ]
    qform = None
    if qform_code > 0:
        numbers = struct.unpack_from(f"{order}6f", header, 256)
        qform = _matrix_of_quaternion(numbers[:3], numbers[3:], pixdim, -1.0 if stated[0] < 0 else 1.0)
    _complete(sform, size, pixdim)
    return _Said(
        size=(size[0], size[1], size[2]),
        pixdim=(pixdim[0], pixdim[1], pixdim[2]),
        qform=qform,
        sform=sform if sform_code > 0 else None,
        sform_code=sform_code,
    )


def _matrix_of_quaternion(
    quaternion: tuple[float, ...], offset: tuple[float, ...], pixdim: list[float], handedness: float
) -> Matrix:
    """The qform as a matrix: b, c, d are three of the four numbers of a rotation (nifti1.h)."""
    b, c, d = quaternion
    rest = 1.0 - (b * b + c * c + d * d)
    if rest < 1e-7:  # a half turn, or rounded to more than one
        length = math.sqrt(b * b + c * c + d * d)
        a, b, c, d = 0.0, b / length, c / length, d / length
    else:
        a = math.sqrt(rest)
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
    ]
    matrix[:3, :3] *= np.array(pixdim) * (1.0, 1.0, handedness)
    matrix[:3, 3] = offset
    return matrix


def _complete(sform: Matrix, size: list[int], pixdim: list[float]) -> None:
    """Give an axis of one voxel a direction where the sform has none for it, as in files of a picture."""
    missing = [axis for axis in range(3) if size[axis] == 1 and not sform[:3, axis].any()]
    if missing == [2]:
        across = np.cross(sform[:3, 0], sform[:3, 1])
        sform[:3, 2] = across / (np.linalg.norm(across) or 1.0) * pixdim[2]


def _taken(path: Path, said: _Said) -> tuple[Matrix | None, Matrix | None]:
    """The form that is taken, and the other where it leads elsewhere."""
    qform, sform, size = said.qform, said.sform, said.size
    if sform is None or qform is None:
        return (qform if sform is None else sform), None
    voxels, _ = apart(sform, qform, size)
    if voxels <= SAME:
        return sform, None
    shown = f"{path}: its sform and its qform lie {voxels:.3g} voxels apart"
    if not (skew := skewed(sform[:3, :3], size)) <= SQUARE:
        shape = "has an axis without length" if math.isinf(skew) else "is skewed"
        note(f"{shown}; the qform was taken, since the sform {shape}")
        return qform, None if math.isinf(skew) else sform
    if np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0:
        raise DataError(f"{shown}, and one mirrors the patient; copy the right one to the other, as with fslorient")
    if said.sform_code in TEMPLATES:
        note(f"{shown}; the qform was taken, since the sform leads to a template ({TEMPLATES[said.sform_code]})")
        return qform, sform
    note(f"{shown}; the sform was taken, as by FSL, FreeSurfer and nibabel")
    return sform, qform


def _spacing(path: Path, said: _Said, taken: Matrix) -> tuple[float, ...]:
    lengths = tuple(float(length) for length in np.linalg.norm(taken[:3, :3], axis=0))
    # Over all of an axis, and one voxel at least, of which nothing is seen where it is the only one.
    moved = [max(n - 1, 1) * abs(a - b) / a for n, a, b in zip(said.size, lengths, said.pixdim, strict=True)]
    if max(moved) <= SAME:
        return said.pixdim
    shown = [" x ".join(f"{value:.4g}" for value in values) for values in (lengths, said.pixdim)]
    note(
        f"{path}: the spacing of its sform is {shown[0]} mm, its pixdim says {shown[1]} mm; that of the sform was"
        " taken, as by FSL, FreeSurfer and nibabel"
    )
    return lengths
