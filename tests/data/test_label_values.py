"""Label values are whole numbers of a type that holds them, or are refused; nothing is wrapped, cut off or rounded."""

from pathlib import Path

import numpy as np
import pytest

from jcl.data.label_values import HIGHEST, as_label_type, whole_values
from jcl.errors import DataError

PATH = Path("x.nii.gz")


def voxels(*values: float, kind: str) -> np.ndarray:
    return np.array(values).astype(kind).reshape(1, 1, 1, -1)


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"])
def test_integers_stay_as_they_are(kind: str) -> None:
    found = whole_values(PATH, voxels(0, 1, 127, kind=kind))
    assert found.dtype == kind
    np.testing.assert_array_equal(found, [[[0, 1, 127]]])


def test_numbers_that_were_scaled_are_the_whole_ones_that_they_were() -> None:
    """Atlases stored as floats have 7014.9999 for 7015, and 6.0001 after resampling; cutting off makes 7014 of it.

    https://github.com/nipreps/petprep/issues/152
    https://github.com/spinalcordtoolbox/spinalcordtoolbox/pull/3230
    """
    found = whole_values(PATH, voxels(7014.9999, 6.0001, -0.0004, kind="float64"))
    np.testing.assert_array_equal(found, [[[7015, 6, 0]]])
    assert found.dtype == np.int32


@pytest.mark.parametrize("value", [0.9882, 2.0235, 7000.977, 0.5, 1.0011])
def test_numbers_that_were_blurred_are_refused(value: float) -> None:
    """Labels of Colin27 are 0.9882, 2.0235, ...; those resampled with interpolation are anything at their borders.

    https://github.com/TorchIO-project/torchio/issues/220
    https://github.com/BioMedIA/dhcp-structural-pipeline/issues/3
    """
    with pytest.raises(DataError, match=r"x\.nii\.gz: its label values are not whole numbers"):
        whole_values(PATH, voxels(0, value, 2, kind="float32"))


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "int64", "float32", "float64"])
def test_values_below_0_are_refused(kind: str) -> None:
    """200 in a type of 8 bits with sign is -56, and -1 is what some tools write for "outside".

    https://github.com/nilearn/nilearn/issues/6447
    https://github.com/MIC-DKFZ/nnUNet/issues/251
    """
    with pytest.raises(DataError, match=r"label values go down to -56; they have to be 0 \(background\) or more"):
        whole_values(PATH, voxels(-1, -56, 2, kind=kind))


@pytest.mark.parametrize("kind", ["uint32", "uint64", "int64", "float64"])
def test_values_that_no_label_file_holds_are_refused(kind: str) -> None:
    np.testing.assert_array_equal(whole_values(PATH, voxels(0, HIGHEST, kind=kind)), [[[0, HIGHEST]]])
    with pytest.raises(
        DataError, match=r"label values go up to 4294967295; the largest that can be used is 2147483647"
    ):
        whole_values(PATH, voxels(0, 4294967295, kind=kind))


def test_values_that_their_type_cannot_tell_apart_are_refused() -> None:
    """16777217 is 16777216 in float32.

    https://github.com/fideus-labs/KonfAI/pull/191
    """
    np.testing.assert_array_equal(whole_values(PATH, voxels(2**24, kind="float32")), [[[2**24]]])
    with pytest.raises(DataError, match="but float32 tells whole numbers apart only up to 16777216"):
        whole_values(PATH, voxels(2**24 + 2, kind="float32"))
    with pytest.raises(DataError, match="go up to 1e"):
        whole_values(PATH, voxels(1e300, kind="float64"))


def test_what_is_not_one_real_number_per_voxel_is_refused() -> None:
    """Readers drop the imaginary part.

    https://github.com/nipy/nibabel/issues/975
    """
    with pytest.raises(DataError, match="its values are complex numbers"):
        whole_values(PATH, voxels(1, kind="complex64"))
    with pytest.raises(DataError, match=r"a 4-D or colour label \(3 values per voxel\)"):
        whole_values(PATH, np.zeros((3, 1, 2, 2), np.uint8))
    for value in (np.nan, np.inf):
        with pytest.raises(DataError, match="not whole numbers"):
            whole_values(PATH, voxels(0, value, kind="float32"))
    np.testing.assert_array_equal(whole_values(PATH, voxels(0, 1, kind="bool")), [[[0, 1]]])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ((0, 255), "uint8"),
        ((0, 256), "uint16"),
        ((0, 65535), "uint16"),
        ((0, 65536), "int32"),
        ((0, 4294967295), "uint32"),
        ((-1, 1), "int32"),
    ],
)
def test_labels_are_written_in_a_type_that_holds_each_of_them(values: tuple[int, int], kind: str) -> None:
    """A run of an earlier release may have classes below 0."""
    found = as_label_type(Path("x.nrrd"), np.array(values))
    assert found.dtype == kind
    np.testing.assert_array_equal(found, values)


def test_what_a_file_cannot_hold_is_not_written() -> None:
    """PNG has no values below 0.

    https://github.com/wkentaro/labelme/pull/173
    """
    assert as_label_type(Path("x.png"), np.array([0, 65535])).dtype == np.uint16
    for values in ([-1, 0], [0, 70000]):
        with pytest.raises(DataError, match="which a PNG file cannot hold; use another format"):
            as_label_type(Path("x.png"), np.array(values))
    with pytest.raises(DataError, match="from -1 to 4294967295, which a label file cannot hold"):
        as_label_type(PATH, np.array([-1, 4294967295]))
    with pytest.raises(DataError, match="JPEG changes label values; use another format"):
        as_label_type(Path("x.JPG"), np.array([0, 1]))
