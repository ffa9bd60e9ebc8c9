"""Where a NIfTI file lies: what nibabel reads of each form, and what is done where the forms disagree."""

import contextlib
import struct
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest

from jcl.data.affine import SAME
from jcl.data.imagefile import NiftiPlace, nifti_place
from jcl.data.notes import DataNote, noted
from jcl.errors import DataError
from support.niftifiles import placed

SIZE = (30, 20, 10)
VOXELS = np.zeros(SIZE, np.uint8)
PATH = Path("scan.nii")
LPS = np.diag([-1, -1, 1, 1])


def rigid(degrees: float = 0, spacing: tuple[float, float, float] = (1.5, 1.5, 5), origin=(40, 45, -20)) -> np.ndarray:
    """An affine turned about an axis that is none of the grid's."""
    axis = np.array([0.5, -0.3, 0.8]) / np.linalg.norm([0.5, -0.3, 0.8])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    angle = np.deg2rad(degrees)
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross) * spacing
    affine[:3, 3] = origin
    return affine


def read(content: bytes) -> tuple[NiftiPlace, str]:
    with noted() as notes:
        place = nifti_place(PATH, content[:352])
    return place, " ".join(notes)


def affine_of(place: NiftiPlace) -> np.ndarray:
    """As nibabel has it."""
    affine = np.eye(4)
    affine[:3, :3] = place.direction * place.spacing
    affine[:3, 3] = place.origin
    return LPS @ affine


@pytest.mark.parametrize("degrees", [0, 10, 90, 179, 180, 250])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("form", ["sform", "qform"])
def test_each_form_is_read_as_nibabel_reads_it(degrees: float, mirrored: bool, form: str) -> None:
    affine = rigid(degrees) @ np.diag([-1 if mirrored else 1, 1, 1, 1])
    content = placed(VOXELS, **{form: affine})
    place, notes = read(content)
    assert notes == ""
    np.testing.assert_allclose(affine_of(place), nibabel.Nifti1Image.from_bytes(content).affine, atol=2e-5)
    assert place.spacing == (1.5, 1.5, 5)


def test_forms_that_differ_by_rounding_are_the_same() -> None:
    """A check of equal numbers refuses images whose forms differ in the ninth digit.

    https://github.com/spinalcordtoolbox/spinalcordtoolbox/issues/3251
    https://github.com/spinalcordtoolbox/spinalcordtoolbox/issues/5207
    """
    affine = rigid(33)
    assert read(placed(VOXELS, sform=affine + 1e-6, qform=affine))[1] == ""
    shifted = rigid(33, origin=(40, 45, -20 + 0.9 * SAME * 1.5))
    assert read(placed(VOXELS, sform=shifted, qform=affine))[1] == ""


def test_of_two_forms_the_sform_is_taken_and_this_is_said() -> None:
    """Tools that took the qform made masks that lay beside the scan in tools that took the sform.

    https://github.com/nipreps/fmriprep/issues/819
    https://github.com/neuropoly/totalspineseg/issues/53
    """
    place, notes = read(placed(VOXELS, sform=rigid(20), qform=rigid(0)))
    np.testing.assert_allclose(affine_of(place), rigid(20), atol=1e-4)
    assert "scan.nii: its sform and its qform lie" in notes
    assert "voxels apart; the sform was taken, as by FSL, FreeSurfer and nibabel" in notes
    assert place.other is not None
    np.testing.assert_allclose(LPS @ place.other, rigid(0), atol=1e-4)


def test_a_form_with_the_code_0_says_nothing() -> None:
    """It was compared all the same.

    https://github.com/simnibs/simnibs/issues/110
    """
    place, notes = read(placed(VOXELS, sform=rigid(20), qform=rigid(0), codes=(1, 0)))
    assert notes == ""
    np.testing.assert_allclose(affine_of(place), rigid(20), atol=1e-4)
    place, notes = read(placed(VOXELS, sform=rigid(20), qform=rigid(0), codes=(0, 1)))
    assert notes == ""
    np.testing.assert_allclose(affine_of(place), rigid(0), atol=1e-4)
    assert read(placed(VOXELS))[0].origin == (0, 0, 0)


def test_an_sform_to_a_template_is_not_the_place_in_the_scanner() -> None:
    """The qform holds the scanner's coordinates, the sform a transformation to standard space.

    https://github.com/hMRI-group/hMRI-toolbox/issues/59
    """
    stretched = rigid(20, spacing=(1.6, 1.7, 4.5))
    place, notes = read(placed(VOXELS, sform=stretched, qform=rigid(0), codes=(4, 1)))
    assert "the qform was taken, since the sform leads to a template (MNI)" in notes
    np.testing.assert_allclose(affine_of(place), rigid(0), atol=1e-4)
    assert place.spacing == (1.5, 1.5, 5)


def test_a_skewed_sform_gives_way_to_the_qform() -> None:
    """Without a qform ITK refuses the file; with one it takes that, and says nothing.

    https://github.com/Project-MONAI/MONAILabel/issues/1634
    """
    skewed = rigid()
    skewed[0, 1] = 0.4
    place, notes = read(placed(VOXELS, sform=skewed, qform=rigid()))
    assert "the qform was taken, since the sform is skewed" in notes
    np.testing.assert_allclose(affine_of(place), rigid(), atol=1e-4)
    with pytest.raises(
        DataError, match=r"scan\.nii: its axes are not at right angles \(a corner would move by 3\.\d+ vox"
    ):
        read(placed(VOXELS, sform=skewed, pixdim=(1.5, 1.5, 5)))
    flat = rigid()
    flat[:3, 2] = 0
    assert "the sform has an axis without length" in read(placed(VOXELS, sform=flat, qform=rigid()))[1]
    with pytest.raises(DataError, match="one has no length"):
        read(placed(VOXELS, sform=flat, pixdim=(1.5, 1.5, 5)))


def test_an_sform_that_is_skewed_by_rounding_is_read() -> None:
    """ITK refuses some: "ITK only supports orthonormal direction cosines".

    https://github.com/SimpleITK/SimpleITK/issues/1433
    https://github.com/MIC-DKFZ/nnUNet/issues/756
    """
    rounded = np.round(rigid(27), 2)
    gram = rounded[:3, :3].T @ rounded[:3, :3]
    assert np.abs(gram - np.diag(np.diag(gram))).max() > 1e-3
    place, notes = read(placed(VOXELS, sform=rounded, pixdim=(1.5, 1.5, 5)))
    assert notes == ""
    np.testing.assert_allclose(affine_of(place), rounded, atol=0.02)


def test_forms_that_mirror_each_other_are_refused() -> None:
    """Left and right cannot be told then.

    https://github.com/MRtrix3/mrtrix3/issues/1210
    """
    with pytest.raises(DataError, match="voxels apart, and one mirrors the patient; copy the right one to the other"):
        read(placed(VOXELS, sform=rigid() @ np.diag([-1, 1, 1, 1]), qform=rigid()))


def test_a_spacing_that_only_pixdim_has_is_not_taken() -> None:
    """As left by a program that sets the zooms and not the affine.

    https://github.com/nipy/nibabel/issues/668
    """
    place, notes = read(placed(VOXELS, sform=rigid(), pixdim=(1, 1, 1)))
    assert place.spacing == pytest.approx((1.5, 1.5, 5))
    assert "the spacing of its sform is 1.5 x 1.5 x 5 mm, its pixdim says 1 x 1 x 1 mm; that of the sform was" in notes
    # Of 30 voxels none lies a tenth of its size elsewhere.
    place, notes = read(placed(VOXELS, sform=rigid(), pixdim=(1.502, 1.5, 5)))
    assert notes == ""
    assert place.spacing[0] == pytest.approx(1.502)
    assert read(placed(np.zeros((300, 20, 10), np.uint8), sform=rigid(), pixdim=(1.502, 1.5, 5)))[1] != ""


def test_a_picture_has_a_place_in_space() -> None:
    """Readers drop its third axis.

    https://github.com/TorchIO-project/torchio/issues/266
    https://github.com/UCL/STIR/issues/456
    """
    coronal = np.array([[-1.5, 0, 0, 40], [0, 0, 5, -33], [0, 1.5, 0, -20], [0, 0, 0, 1.0]])
    place, notes = read(placed(np.zeros((30, 20), np.uint8), sform=coronal, qform=coronal))
    assert notes == ""
    np.testing.assert_allclose(affine_of(place), coronal, atol=1e-5)
    flat = coronal.copy()
    flat[:3, 2] = 0  # as some writers leave it
    place, _ = read(placed(np.zeros((30, 20), np.uint8), sform=flat, pixdim=(1.5, 1.5, 0)))
    np.testing.assert_allclose(affine_of(place)[:, :2], coronal[:, :2], atol=1e-5)
    np.testing.assert_allclose(place.direction[:, 2] @ place.direction[:, :2], 0, atol=1e-6)
    elsewhere = coronal.copy()
    elsewhere[1, 3] = 17
    assert "10 voxels apart" in read(placed(np.zeros((30, 20), np.uint8), sform=elsewhere, qform=coronal))[1]


@pytest.mark.parametrize(("unit", "scale"), [(0, 1), (1, 1000), (2, 1), (3, 0.001), (10, 1)])
def test_units_count(unit: int, scale: float) -> None:
    content = bytearray(placed(VOXELS, sform=rigid(), qform=rigid(20)))
    content[123] = unit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataNote)
        place = nifti_place(PATH, bytes(content[:352]))
    assert place.spacing == pytest.approx((1.5 * scale, 1.5 * scale, 5 * scale))
    assert place.origin == pytest.approx((-40 * scale, -45 * scale, -20 * scale))
    assert place.other is not None
    np.testing.assert_allclose(np.linalg.norm(place.other[:3, :3], axis=0), place.spacing, rtol=1e-5)


def test_no_header_makes_another_error() -> None:
    """Whatever the numbers are: a place, or a named error."""
    random = np.random.default_rng(0)
    content = bytearray(placed(VOXELS, sform=rigid(), qform=rigid()))
    extremes = np.array([0, 1, -1, 1e-38, -1e-45, 3e38, 1e20, 0.7], np.float32)
    for _ in range(100):
        struct.pack_into("<6f", content, 256, *random.choice(extremes, 6))
        struct.pack_into("<12f", content, 280, *random.choice(extremes, 12))
        struct.pack_into("<2h", content, 252, *random.integers(0, 5, 2).tolist())
        with contextlib.suppress(DataError), np.errstate(all="ignore"):
            place, notes = read(bytes(content))
            assert "\n" not in notes
            assert np.isfinite(place.direction).all()
