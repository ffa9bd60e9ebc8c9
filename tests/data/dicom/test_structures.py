"""Structures of DICOM-SEG and RTSTRUCT on the voxels of their series, against highdicom and by hand."""

import warnings
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from jcl.data.dicom.segmentation import source_header, write_segmentation
from jcl.data.dicom.series import find_series
from jcl.data.dicom.structure_set import write_structure_set
from jcl.data.dicom.structures import read_structures, referenced_series, structure_names
from jcl.data.notes import noted
from jcl.data.sources import SliceFiles
from jcl.data.volumes import Volume, read_image
from jcl.errors import DataError
from support.dicomfiles import enhanced, save, voxels, write_series

NAMES = ("liver", "left kidney")
WRITERS = {"seg": write_segmentation, "rtstruct": write_structure_set}
RT_UTILS = Path(__file__).parents[2] / "oracles" / "rt_utils.dcm"
OBLIQUE = [0.8, 0.6, 0, 0, 0, -1]


SQUARE_SERIES = {
    "array": voxels(5, 16, 16), "PixelSpacing": [0.8, 0.8], "StudyDate": "20260101", "StudyTime": "1200",
    "StudyID": "1", "PatientBirthDate": "", "PatientSex": "", "AccessionNumber": "", "ReferringPhysicianName": "",
}  # fmt: skip
"""What rt-utils asks for: as many rows as columns of one size, and elements that may be empty."""


def labels(rows: int = 12) -> np.ndarray:
    """Holes, an island in a hole, corners that touch, voxels at the border, single ones, and an empty slice."""
    array = np.zeros((5, rows, 16), np.uint8)
    array[0, 1:10, 1:12] = 1
    array[0, 3:8, 3:10] = 0
    array[0, 5, 6] = 1
    array[1, 0, 0] = array[1, 1, 1] = array[1, 0, 2] = 1
    array[1, 11, 15] = 2
    array[3, :12] = np.random.default_rng(0).integers(0, 3, (12, 16))
    array[4, :12] = 2
    return array


def series(folder: Path, **tags: object) -> tuple[tuple[Path, ...], Volume]:
    write_series(folder, **tags)  # pyright: ignore[reportArgumentType]
    (found,) = find_series(folder)
    return found.files, read_image([SliceFiles(folder, found.files)])


@pytest.mark.parametrize("orientation", [[1, 0, 0, 0, 1, 0], OBLIQUE, [0, -1, 0, 0, 0, -1]])
@pytest.mark.parametrize("form", WRITERS)
def test_what_is_written_is_read_again(tmp_path: Path, form: str, orientation: list[float]):
    files, volume = series(tmp_path / "in", ImageOrientationPatient=orientation)
    path = tmp_path / "labels.dcm"
    WRITERS[form](path, labels(), files, NAMES)
    assert structure_names(path) == NAMES
    assert referenced_series(path) == pydicom.dcmread(files[0]).SeriesInstanceUID
    with noted() as notes:
        found = read_structures(path, *at(volume), {"Left  Kidney": 7, "liver": 3})
    np.testing.assert_array_equal(found, np.array([0, 3, 7])[labels()])
    assert notes == []


def test_contours_through_the_centres_of_voxels(tmp_path: Path):
    """As rt-utils draws them (rt-utils#141): by their inside alone, the outermost voxels would be lost.

    The other way round, dcmrtstruct2nii finds the same voxels in what is written here (`oracles/make_rtstruct.py`).
    """
    _, volume = series(tmp_path / "in", **SQUARE_SERIES)
    found = read_structures(RT_UTILS, *at(volume), {"liver": 1, "left kidney": 2})
    np.testing.assert_array_equal(found, labels(rows=16))


def test_segments_are_highdicoms(tmp_path: Path):
    files, volume = series(tmp_path / "in", ImageOrientationPatient=OBLIQUE)
    write_segmentation(tmp_path / "seg.dcm", labels(), files, NAMES)
    opened = highdicom.seg.segread(tmp_path / "seg.dcm")
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in files]
    expected = opened.get_pixels_by_source_instance(uids, combine_segments=True, assert_missing_frames_are_empty=True)
    found = read_structures(tmp_path / "seg.dcm", *at(volume), {"liver": 1, "left kidney": 2})
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["FRACTIONAL", "LABELMAP"])
def test_other_types_of_segmentation_written_by_highdicom(tmp_path: Path, kind: str):
    files, volume = series(tmp_path / "in")
    write_segmentation(tmp_path / "seg.dcm", labels(), files, NAMES)
    one = highdicom.seg.segread(tmp_path / "seg.dcm")
    pixels = np.stack([labels() == 1, labels() == 2], axis=-1) * 0.7 if kind == "FRACTIONAL" else labels()
    made = highdicom.seg.Segmentation(
        source_images=[source_header(file) for file in files], pixel_array=pixels, segmentation_type=kind,
        segment_descriptions=[one.get_segment_description(n) for n in (1, 2)], series_instance_uid=generate_uid(),
        series_number=9, sop_instance_uid=generate_uid(), instance_number=1, manufacturer="m",
        manufacturer_model_name="m", software_versions="1", device_serial_number="1",
    )  # fmt: skip
    made.save_as(tmp_path / "other.dcm")
    found = read_structures(tmp_path / "other.dcm", *at(volume), {"liver": 1, "left kidney": 2})
    np.testing.assert_array_equal(found, labels())


def test_frames_may_run_another_way_but_not_lie_between_voxels(tmp_path: Path):
    files, volume = series(tmp_path / "in")
    path = tmp_path / "seg.dcm"
    write_segmentation(path, labels(), files, NAMES)
    dataset = pydicom.dcmread(path)
    pixels = dataset.pixel_array
    turned = np.ascontiguousarray(pixels[:, ::-1])
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        position = groups.PlanePositionSequence[0]
        x, y, z = position.ImagePositionPatient
        position.ImagePositionPatient = [x, round(y + 11 * 0.8, 6), z]
    orientation = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    orientation.ImageOrientationPatient = [1, 0, 0, 0, -1, 0]
    dataset.PixelData = np.packbits(turned.ravel(), bitorder="little").tobytes()
    dataset.save_as(path)
    values = {"liver": 1, "left kidney": 2}
    np.testing.assert_array_equal(read_structures(path, *at(volume), values), labels())
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        groups.PlanePositionSequence[0].ImagePositionPatient[0] += 0.3 * 0.7
    dataset.save_as(path)
    with pytest.raises(
        DataError, match=r"seg\.dcm: its frames do not lie on the voxels of its series \(0\.3 voxels away"
    ):
        read_structures(path, *at(volume), values)


def test_what_the_user_does_not_name_is_left_out_and_said(tmp_path: Path):
    files, volume = series(tmp_path / "in")
    write_structure_set(tmp_path / "rt.dcm", labels(), files, NAMES)
    with noted() as notes:
        found = read_structures(tmp_path / "rt.dcm", *at(volume), {"liver": 1})
    np.testing.assert_array_equal(found, labels() == 1)
    assert notes == [f"{tmp_path / 'rt.dcm'}: left out, since --labels does not name them: left kidney"]


def contour(points: list[tuple[float, float, float]], kind: str = "CLOSED_PLANAR") -> Dataset:
    item = Dataset()
    item.ContourGeometricType, item.NumberOfContourPoints = kind, len(points)
    item.ContourData = [f"{value:g}" for point in points for value in point]
    return item


def square(x: float, y: float, side: float, z: float) -> list[tuple[float, float, float]]:
    return [(x, y, z), (x + side, y, z), (x + side, y + side, z), (x, y + side, z)]


def at(volume: Volume) -> tuple[np.ndarray, tuple[int, int, int]]:
    return volume.geometry.affine, volume.geometry.size


def _above(number: int, dataset: Dataset) -> None:
    dataset.ImagePositionPatient = [0, 0, 2 * number]


def edited(tmp_path: Path, *regions: tuple[str, list[Dataset]]) -> tuple[Path, Volume]:
    """An RTSTRUCT with these regions on a series of 1 mm voxels whose first lies at 0, 0, 0."""
    files, volume = series(
        tmp_path / "in", PixelSpacing=[1, 1], step=2.0,
        change=_above,
    )  # fmt: skip
    path = tmp_path / "rt.dcm"
    write_structure_set(path, np.zeros((5, 12, 16), np.uint8), files, [name for name, _ in regions])
    dataset = pydicom.dcmread(path)
    for item, (_, contours) in zip(dataset.ROIContourSequence, regions, strict=True):
        item.ContourSequence = contours
    dataset.save_as(path)
    return path, volume


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_contour_of_more_points_than_a_typed_value_holds(tmp_path: Path, syntax: str):
    """Programs that write types all the same leave the value without one (pydicom warns of it)."""
    angles = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    points = [(round(5 + 3.3 * np.cos(a), 4), round(5 + 3.3 * np.sin(a), 4), 2.0) for a in angles.tolist()]
    path, volume = edited(tmp_path, ("disc", [contour(points)]))
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(path, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    y, x = np.mgrid[:12, :16]
    found = read_structures(path, *at(volume), {"disc": 1})
    np.testing.assert_array_equal(found[1], np.hypot(x - 5, y - 5) < 3.3)


def test_overlaps_go_to_the_smaller_and_are_said(tmp_path: Path):
    """As the outline of the body that treatment planning draws around everything."""
    body, organ = [contour(square(0.5, 0.5, 9, 2))], [contour(square(2.5, 2.5, 3, 2))]
    path, volume = edited(tmp_path, ("Organ", organ), ("BODY", body))
    expected = np.zeros((5, 12, 16))
    expected[1, 1:10, 1:10] = 2
    expected[1, 3:6, 3:6] = 1
    with noted() as notes:
        found = read_structures(path, *at(volume), {"organ": 1, "body": 2})
    np.testing.assert_array_equal(found, expected)
    assert len(notes) == 1
    assert "structures overlap in 9 voxels" in notes[0]


def test_holes_as_contours_of_their_own_or_by_a_keyhole(tmp_path: Path):
    """A hole is a second contour (platipy#244, dcmrtstruct2nii#32), or one line goes in and out again."""
    ring = [contour(square(0.5, 0.5, 8, 4)), contour(square(2.5, 2.5, 4, 4))]
    outer, inner = square(0.5, 0.5, 8, 6), square(2.5, 2.7, 4, 6)
    keyhole = contour([*outer, outer[0], inner[0], inner[3], inner[2], inner[1], inner[0]])
    path, volume = edited(tmp_path, ("ring", [*ring, keyhole]))
    found = read_structures(path, *at(volume), {"ring": 1})
    expected = np.zeros((12, 16))
    expected[1:9, 1:9], expected[3:7, 3:7] = 1, 0
    np.testing.assert_array_equal(found[2], expected)
    np.testing.assert_array_equal(found[3], expected)
    assert not found[[0, 1, 4]].any()


def test_contours_outside_tiny_or_open(tmp_path: Path):
    """Beyond the image (z-rad#252), smaller than a voxel (vv#117), and points, which enclose nothing."""
    some = [
        contour(square(-5.5, -5.5, 8, 0)), contour(square(3.1, 3.1, 0.2, 0)), contour(square(1, 1, 5, 20)),
        contour([(5, 5, 0)], "POINT"),
    ]  # fmt: skip
    path, volume = edited(tmp_path, ("a", some), ("marker", [contour([(1, 1, 0)], "POINT")]))
    assert structure_names(path) == ("a",)
    with noted() as notes:
        found = read_structures(path, *at(volume), {"a": 1})
    expected = np.zeros((5, 12, 16))
    expected[0, :3, :3] = 1
    np.testing.assert_array_equal(found, expected)
    assert len(notes) == 1
    assert "1 contours lie above or below the slices" in notes[0]


@pytest.mark.parametrize("away", [0.4, 0.6])
def test_planes_are_those_of_the_nearest_slice_or_of_another_series(tmp_path: Path, away: float):
    """Rounded positions are near a slice (matRad#910); contours of a series with other slices are not."""
    path, volume = edited(tmp_path, ("a", [contour(square(0.5, 0.5, 3, 2 + away))]))
    if away < 0.5:
        assert read_structures(path, *at(volume), {"a": 1})[1].sum() == 9
    else:
        with pytest.raises(DataError, match=r"rt\.dcm: a contour lies between the slices of its series \(0\.3 slices"):
            read_structures(path, *at(volume), {"a": 1})


def test_a_multi_frame_image(tmp_path: Path):
    path = save(tmp_path / "in" / "all.dcm", enhanced(voxels()))
    (found,) = find_series(tmp_path / "in")
    volume = read_image([SliceFiles(tmp_path / "in", found.files)])
    write_structure_set(tmp_path / "rt.dcm", labels(), [path], NAMES)
    np.testing.assert_array_equal(
        read_structures(tmp_path / "rt.dcm", *at(volume), {"liver": 1, "left kidney": 2}),
        labels(),
    )
    region = pydicom.dcmread(tmp_path / "rt.dcm").ROIContourSequence[0]
    frames = {c.ContourImageSequence[0].ReferencedFrameNumber for c in region.ContourSequence}
    assert frames == {1, 2, 4}


@pytest.mark.parametrize("cut", [100, 600, 2000])
def test_a_damaged_file_is_named(tmp_path: Path, cut: int):
    files, volume = series(tmp_path / "in")
    for form, writer in WRITERS.items():
        path = tmp_path / f"{form}.dcm"
        writer(path, labels(), files, NAMES)
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(DataError, match=rf"{form}\.dcm: "):
            read_structures(path, *at(volume), {"liver": 1, "left kidney": 2})
