"""Voxels of one source and where they lie: what a header says twice, and what a reader would drop."""

import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from jcl.data.grids import read_grid
from jcl.data.notes import noted
from jcl.data.volumes import read_image, read_label, write_label
from jcl.errors import DataError
from support.niftifiles import placed, save_placed

AFFINE = np.array([[-1.5, 0, 0, 40], [0, -1.5, 0, 45], [0, 0, 5, -20], [0, 0, 0, 1.0]])
ARRAY = np.random.default_rng(0).integers(0, 7, (12, 10, 6)).astype(np.int16)


def moved(*by: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[:3, 3] += by
    return affine


def test_a_result_lies_where_the_scan_does_by_each_of_its_forms(tmp_path: Path) -> None:
    """It was written with the qform for both, so that scan and mask lay apart in tools that take the sform.

    https://github.com/spinalcordtoolbox/spinalcordtoolbox/issues/2106
    """
    for name, sform, qform, codes in (
        ("both.nii", moved(10, -7, 25), AFFINE, (2, 1)),
        ("template.nii", moved(10, -7, 25), AFFINE, (4, 1)),
        ("sform.nii", AFFINE, None, (3, 0)),
        ("qform.nii", None, AFFINE, (0, 2)),
        ("none.nii", None, None, (0, 0)),
    ):
        source = save_placed(tmp_path / name, ARRAY, sform=sform, qform=qform, codes=codes)
        with noted() as notes:
            volume = read_image([source])
        assert len(notes) == (1 if sform is not None and qform is not None else 0)
        write_label(tmp_path / f"out_{name}", volume.array[0].astype(np.uint8), volume.geometry)
        scan, result = nibabel.load(source), nibabel.load(tmp_path / f"out_{name}")
        np.testing.assert_array_equal(np.asarray(result.dataobj), ARRAY)
        for form in ("get_sform", "get_qform"):
            (one, code), (other, kept) = (getattr(image.header, form)(coded=True) for image in (scan, result))
            assert code == kept
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(scan.affine, result.affine)


def test_a_label_may_have_the_form_that_was_not_taken(tmp_path: Path) -> None:
    """A program that knows one form only writes labels with it."""
    image = save_placed(tmp_path / "a.nii", ARRAY, sform=moved(10, -7, 25), qform=AFFINE)
    with noted():
        volume = read_image([image])
    for affine in (AFFINE, moved(10, -7, 25)):
        label = save_placed(tmp_path / "b.nii", ARRAY, sform=affine, qform=affine)
        np.testing.assert_array_equal(read_label(label, volume), volume.array[0])
    label = save_placed(tmp_path / "b.nii", ARRAY, sform=moved(0, 3, 0), qform=moved(0, 3, 0))
    with pytest.raises(DataError, match=r"b\.nii: lies 3 mm apart from its image"):
        read_label(label, volume)


def test_a_label_may_lie_a_tenth_of_a_voxel_beside_its_image(tmp_path: Path) -> None:
    """Of the voxel's own side: an origin rounded to 0.1 mm is nothing along thick slices. Affines were compared entry
    by entry, or as a share of the origin.

    https://github.com/TorchIO-project/torchio/issues/381
    https://github.com/CBICA/CaPTk/pull/1224
    """
    thin = AFFINE @ np.diag([0.2, 0.2, 1, 1])
    volume = read_image([save_placed(tmp_path / "a.nii", ARRAY, sform=thin, qform=thin)])
    for shift, fits in (((0, 0, 0.4), True), ((0, 0, 0.6), False), ((0.02, 0, 0), True), ((0.05, 0, 0), False)):
        affine = thin.copy()
        affine[:3, 3] += shift
        label = save_placed(tmp_path / "b.nii", ARRAY, sform=affine, qform=affine)
        if fits:
            assert read_label(label, volume).shape == (6, 10, 12)
        else:
            with pytest.raises(DataError, match="mm apart from its image"):
                read_label(label, volume)


def test_a_spacing_that_is_rounded_counts_as_much_as_the_image_is_large(tmp_path: Path) -> None:
    """Rounded in the fourth digit it moves nothing in 12 voxels, and the last of 600 by a third.

    https://github.com/nilearn/nilearn/issues/3115
    https://github.com/PennLINC/qsiprep/issues/1036
    """
    for length, fits in ((12, True), (600, False)):
        array = np.resize(ARRAY, (length, 4, 3))
        affine, rounded = np.diag([0.70312, 1, 1, 1]), np.diag([0.7035, 1, 1, 1])
        volume = read_image([save_placed(tmp_path / "a.nii", array, sform=affine, qform=affine)])
        label = save_placed(tmp_path / "b.nii", array, sform=rounded, qform=rounded)
        if fits:
            assert read_label(label, volume).shape == (3, 4, 12)
        else:
            with pytest.raises(DataError, match="mm apart from its image"):
                read_label(label, volume)


@pytest.mark.parametrize("packed", [".nii", ".nii.gz"])
def test_a_picture_keeps_its_place(tmp_path: Path, packed: str) -> None:
    """ITK drops the third axis: a coronal one is refused as skewed, an axial one comes back at z = 0.

    https://github.com/TorchIO-project/torchio/issues/266
    https://github.com/SyneRBI/SIRF/issues/562
    """
    coronal = np.array([[-1.5, 0, 0, 40], [0, 0, 5, -33], [0, 1.5, 0, -20], [0, 0, 0, 1.0]])
    for name, affine in (("axial", AFFINE), ("coronal", coronal)):
        image = nibabel.Nifti1Image(ARRAY[:, :, 0], affine)
        image.set_qform(affine, 1)
        source = tmp_path / f"{name}{packed}"
        nibabel.save(image, source)
        volume = read_image([source])
        np.testing.assert_array_equal(volume.array[0, 0], ARRAY[:, :, 0].T)  # it is not turned
        assert volume.spacing == (1, 1.5, 1.5)
        write_label(tmp_path / f"out{packed}", volume.array[0].astype(np.uint8), volume.geometry)
        result = nibabel.load(tmp_path / f"out{packed}")
        assert result.shape == (12, 10)
        np.testing.assert_allclose(result.affine, affine)
        np.testing.assert_array_equal(read_label(tmp_path / f"out{packed}", volume), volume.array[0])
        write_label(tmp_path / "out.png", volume.array[0].astype(np.uint8), volume.geometry)
        assert sitk.ReadImage(str(tmp_path / "out.png")).GetSize() == (12, 10)
    above = AFFINE.copy()
    above[2, 3] += 30
    volume = read_image([save_placed(tmp_path / "a.nii", ARRAY[:, :, 0], sform=AFFINE, qform=AFFINE)])
    label = save_placed(tmp_path / "b.nii", ARRAY[:, :, 0], sform=above, qform=above)
    with pytest.raises(DataError, match="lies 30 mm apart"):
        read_label(label, volume)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_complex_values_are_refused(tmp_path: Path, suffix: str) -> None:
    """Readers drop the imaginary part.

    https://github.com/nipy/nibabel/issues/975
    https://github.com/niivue/niivue/issues/656
    """
    path = tmp_path / f"a{suffix}"
    nibabel.save(nibabel.Nifti1Image(ARRAY.astype(np.complex64), AFFINE), path)
    with pytest.raises(DataError, match="its values are complex numbers; save their magnitude"):
        read_image([path])


def test_colours_are_not_a_label(tmp_path: Path) -> None:
    """A NIfTI file can have them.

    https://github.com/rordenlab/niimath/issues/49
    """
    colours = np.zeros(ARRAY.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colours["R"][:2] = 255
    nibabel.save(nibabel.Nifti1Image(colours, AFFINE), tmp_path / "b.nii")
    volume = read_image([save_placed(tmp_path / "a.nii", ARRAY, sform=AFFINE)])
    with pytest.raises(DataError, match=r"b\.nii: a 4-D or colour label \(3 values per voxel\)"):
        read_label(tmp_path / "b.nii", volume)


def test_a_label_may_be_scaled(tmp_path: Path) -> None:
    """Saved as integers with a slope, 3 comes back as 2.9999999.

    https://github.com/spinalcordtoolbox/spinalcordtoolbox/issues/3232
    """
    content = bytearray(placed(ARRAY * 100, sform=AFFINE))
    struct.pack_into("<2f", content, 112, 0.01, 0)
    (tmp_path / "b.nii").write_bytes(content)
    volume = read_image([save_placed(tmp_path / "a.nii", ARRAY, sform=AFFINE)])
    np.testing.assert_array_equal(read_label(tmp_path / "b.nii", volume), volume.array[0])
    struct.pack_into("<2f", content, 112, 0.0099, 0)
    (tmp_path / "b.nii").write_bytes(content)
    with pytest.raises(DataError, match="not whole numbers"):
        read_label(tmp_path / "b.nii", volume)


@pytest.mark.parametrize(
    ("kind", "at", "values", "words"),
    [
        ("<2f", 112, (0, 7), r"scl_slope 0 \(no scaling\) and scl_inter 7"),
        ("<h", 72, (8,), "datatype 4, of 16 bits, and bitpix 8"),
    ],
)
def test_what_is_said_twice_of_values_has_to_agree(
    tmp_path: Path, kind: str, at: int, values: tuple[float, ...], words: str
) -> None:
    """ITK adds the intercept, nibabel does not."""
    content = bytearray(placed(ARRAY, sform=AFFINE))
    struct.pack_into(kind, content, at, *values)
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_image([tmp_path / "a.nii"])


def test_synonyms_of_metaimage_have_to_agree(tmp_path: Path) -> None:
    path = tmp_path / "a.mha"
    sitk.WriteImage(sitk.GetImageFromArray(ARRAY), str(path))
    content = path.read_bytes()
    for line in (b"Position = 0 0 0\n", b"Origin = 0 0 0\n"):
        path.write_bytes(content.replace(b"Offset =", line + b"Offset ="))
        assert read_grid(path).origin == (0, 0, 0)
    path.write_bytes(content.replace(b"Offset =", b"Position = 1 2 3\nOffset ="))
    with pytest.raises(DataError, match="its header says both '1 2 3' and '0 0 0' of one thing"):
        read_grid(path)
    path.write_bytes(content.replace(b"Offset =", b"Orientation = 1 0 0 0 0 1 0 1 0\nOffset ="))
    with pytest.raises(DataError, match="of one thing"):
        read_grid(path)
    path.write_bytes(content.replace(b"Offset =", b"ElementByteOrderMSB = True\nOffset ="))
    with pytest.raises(DataError, match="its header says both 'False' and 'True' of one thing"):
        read_grid(path)


def test_the_size_of_an_element_of_a_metaimage_is_not_its_spacing(tmp_path: Path) -> None:
    path = tmp_path / "a.mha"
    sitk.WriteImage(sitk.GetImageFromArray(ARRAY), str(path))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"ElementSpacing =", b"ElementSize = 1 1 1\nElementSpacing ="))
    assert read_grid(path).spacing == (1, 1, 1)
    path.write_bytes(content.replace(b"ElementSpacing =", b"ElementSize = 1 1 5\nElementSpacing ="))
    with noted() as notes:
        assert read_grid(path).spacing == (1, 1, 1)
    assert notes == [f"{path}: its ElementSize is 1 x 1 x 5 mm, its ElementSpacing 1 x 1 x 1 mm, which was taken"]


def test_directions_and_spacings_of_a_nrrd_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(ARRAY), str(path), useCompression=False)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"space directions:", b"spacings: 2 2 2\nspace directions:"))
    with pytest.raises(DataError, match="its header has both spacings and space directions; remove one of them"):
        read_grid(path)


def test_a_picture_of_a_nrrd_in_space_is_refused(tmp_path: Path) -> None:
    """ITK cannot read it, and says so in its own words."""
    head = (
        "NRRD0004\ntype: short\ndimension: 2\nspace: left-posterior-superior\nsizes: 12 10\n"
        "space directions: (1,0,0) (0,0,1)\nspace origin: (1,2,3)\nendian: little\nencoding: raw\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(head.encode() + ARRAY[:, :, 0].tobytes())
    with pytest.raises(DataError, match="a picture in space of three dimensions; save it as a volume of one slice"):
        read_grid(tmp_path / "a.nrrd")
