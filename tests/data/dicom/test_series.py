"""DICOM series: found, parted, sorted and checked; each thing that can be wrong has its own outcome."""

import os
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, generate_uid

from jcl.data.dicom.series import DicomSeries, find_series, is_dicom, search_series
from jcl.data.dicom.voxels import read_series
from jcl.data.notes import noted
from jcl.errors import DataError
from support import dicomfiles
from support.dicomfiles import image, save, voxels, write_series


def only(source: Path) -> DicomSeries:
    (series,) = find_series(source)
    return series


def problem(source: Path) -> str:
    """Of the only series, which reading has to refuse too."""
    series = only(source)
    assert series.problem is not None
    assert str(source) in series.problem
    assert "\n" not in series.problem
    with pytest.raises(DataError):
        read_series(series.files)
    return series.problem


def by_itk(files: tuple[Path, ...]) -> tuple[np.ndarray, sitk.Image]:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in files])
    image = reader.Execute()
    return sitk.GetArrayFromImage(image), image


OBLIQUE = (0.8, 0.6, 0, -0.36, 0.48, 0.8)


@pytest.mark.parametrize("orientation", [dicomfiles.AXIAL, (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1), OBLIQUE])
def test_voxels_and_geometry_are_those_of_simpleitk(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    array = voxels(12)
    files = write_series(tmp_path, array, ImageOrientationPatient=list(orientation))
    series = only(tmp_path)
    assert series.problem is None
    assert series.files == tuple(files)  # 1, 2, ... 12, not 1, 10, 11, 12, 2
    found, grid = read_series(files[::-1])
    np.testing.assert_array_equal(found, array)
    expected, image = by_itk(series.files)
    np.testing.assert_array_equal(found, expected)
    assert grid.size == image.GetSize()
    np.testing.assert_allclose(grid.spacing, image.GetSpacing(), atol=1e-6)
    np.testing.assert_allclose(grid.origin, image.GetOrigin(), atol=1e-6)
    np.testing.assert_allclose(grid.direction, image.GetDirection(), atol=1e-6)


def test_files_are_sorted_by_position_not_by_name_or_instance_number(tmp_path: Path) -> None:
    def change(number: int, dataset: Dataset) -> None:
        dataset.InstanceNumber = 40 - number

    array = voxels(12)
    files = write_series(tmp_path, array, change=change)
    shuffled = np.random.default_rng(0).permutation(12)
    for at, file in zip(shuffled, files, strict=True):
        file.rename(tmp_path / f"IM{at:02d}")  # no ending either
    series = only(tmp_path)
    assert [file.name for file in series.files] == [f"IM{at:02d}" for at in shuffled]
    np.testing.assert_array_equal(read_series(series.files)[0], array)


def test_two_series_in_one_folder_come_out_as_two(tmp_path: Path) -> None:
    write_series(tmp_path / "study", voxels(4), name="{}", series="a", SeriesNumber=2)
    write_series(tmp_path / "study", voxels(6, seed=1), name="b{}", series="b", SeriesNumber=5)
    first, second = find_series(tmp_path)
    assert (first.name, second.name) == ("study_2", "study_5")
    assert (len(first.files), len(second.files)) == (4, 6)
    assert first.problem is None
    assert second.problem is None
    np.testing.assert_array_equal(read_series(second.files)[0], voxels(6, seed=1))
    with pytest.raises(DataError, match=r"two slices lie at one position"):
        read_series(first.files + second.files)


def test_names_are_readable_unique_and_safe(tmp_path: Path) -> None:
    source = tmp_path / "in"
    write_series(source / "p 1" / "T1: post", series="a")
    write_series(source / "P_1" / "x", series="b", SeriesNumber=None, SeriesDescription="Axial T2")
    write_series(source / "P_1" / "x", series="c", name="c{}", SeriesNumber=None, SeriesDescription="axial t2")
    write_series(source / "P" / "1_x", series="d", PatientID="", PatientName="Roe")
    write_series(source / "äö 患者" / ("long" * 50), series="e", PatientID=None, PatientName=None)
    (source / ".hidden").mkdir()
    write_series(source / ".hidden", series="f")
    found = find_series(source)
    names = {series.name for series in found}
    assert {"p-1_T1-post", "P_1_x", "P_1_x_Axial-T2", "P_1_x_axial-t2_2"} < names
    assert len({name.casefold() for name in names}) == len(names) == 5
    assert all(re.fullmatch(r"[\w-][\w.-]*", name) and len(name.encode()) <= 130 for name in names)
    long = next(series for series in found if "long" in series.name)
    assert long.patient == long.name
    assert next(series for series in found if series.name == "P_1_x").patient == "P_1_x"
    assert names == {series.name for series in find_series(source)}


def test_only_the_files_that_are_given_are_looked_at(tmp_path: Path) -> None:
    files = write_series(tmp_path / "a" / "b")
    write_series(tmp_path / "c", series="c")
    (series,) = find_series(tmp_path, reversed(files))
    assert (series.name, series.files) == ("a_b", tuple(files))
    (tmp_path / "empty").mkdir()
    assert find_series(tmp_path / "empty") == []
    with pytest.raises(DataError, match="no such folder"):
        find_series(tmp_path / "nowhere")


def test_what_is_no_scan_is_left_out_and_counted(tmp_path: Path) -> None:
    write_series(tmp_path)
    for number, sop_class in enumerate(("66.4", "88.11", "11.1", "481.3")):
        other = Dataset()
        other.file_meta = pydicom.dataset.FileMetaDataset()
        other.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        other.SOPClassUID, other.SOPInstanceUID = f"1.2.840.10008.5.1.4.1.1.{sop_class}", f"1.2.{number}"
        other.SeriesInstanceUID = generate_uid(entropy_srcs=["a"])
        save(tmp_path / f"other{number}", other)
    save(tmp_path / "scout", image(voxels(1)[0], "s", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    directory = Dataset()
    directory.file_meta = pydicom.dataset.FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.file_meta.MediaStorageSOPInstanceUID = "1.2.9"
    save(tmp_path / "DICOMDIR", directory)
    (tmp_path / "readme.txt").write_text("no DICOM, but longer than the 132 bytes that come before a header " * 9)
    (tmp_path / "empty.dcm").touch()
    found = search_series(tmp_path)
    assert sorted(kind for _, kind in found.structures) == ["RTSTRUCT", "segmentation"]
    kinds = ("DICOMDIR", "localizer", "presentation state", "report")
    assert found.left_out == dict.fromkeys(kinds, 1)
    assert len(found.series) == 1
    assert found.series[0].problem is None


def test_files_of_old_without_a_mark_are_dicom_and_others_not(tmp_path: Path) -> None:
    dataset = image(voxels(1)[0], "old")
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    path = save(tmp_path / "old", dataset)
    assert is_dicom(path)
    with path.open("rb") as file:
        content = file.read()
    start = content.index(struct.pack("<HHI", 8, 8, 22))  # ImageType, the first element after the meta information
    path.write_bytes(content[start:])
    assert is_dicom(path)
    np.testing.assert_array_equal(read_series(only(tmp_path).files)[0], voxels(1))
    for content in (b"", b"x" * 200, b"\x08\0" * 100, bytes(400), b"\x08\0\x05\0CS\x0a\0ISO_IR 100" + b"\xff" * 300):
        (tmp_path / "other").write_bytes(content)
        assert not is_dicom(tmp_path / "other")
    assert not is_dicom(tmp_path / "missing")


def test_a_missing_slice_is_told(tmp_path: Path) -> None:
    files = write_series(tmp_path, voxels(8))
    files[3].unlink()
    assert re.search(r"1 slices are missing \(3.dcm and 5.dcm lie 5 mm apart, others 2.5", problem(tmp_path))
    files[4].unlink()
    assert "2 slices are missing" in problem(tmp_path)


def test_variable_spacing_is_told_and_rounding_is_not(tmp_path: Path) -> None:
    write_series(tmp_path, change=shift(2, (0, 0, 0.6)))
    assert "spacing of its slices varies" in problem(tmp_path)
    write_series(tmp_path, change=shift(2, (0, 0, 0.02)))
    assert only(tmp_path).problem is None

    def widen(number: int, dataset: Dataset) -> None:
        dataset.ImagePositionPatient = [-10, 20, number + number * number * 0.0008]

    write_series(tmp_path, voxels(60), change=widen)
    assert "varies" in problem(tmp_path)


def shift(at: int, by: tuple[float, float, float]) -> Any:
    def change(number: int, dataset: Dataset) -> None:
        if number == at:
            dataset.ImagePositionPatient = [*(np.array(dataset.ImagePositionPatient, float) + by)]

    return change


def test_a_tilted_gantry_and_shifted_slices_are_told(tmp_path: Path) -> None:
    def tilt(number: int, dataset: Dataset) -> None:
        dataset.ImagePositionPatient = [0, number * 2 * np.tan(np.radians(15)), number * 2]

    write_series(tmp_path / "a", change=tilt)
    assert "gantry tilt of 15.0 degrees" in problem(tmp_path / "a")
    write_series(tmp_path / "b", change=shift(2, (3, 0, 0)))
    assert "mm beside" in problem(tmp_path / "b")


def test_copies_of_a_file_are_left_out(tmp_path: Path) -> None:
    files = write_series(tmp_path)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "3 (1).dcm").write_bytes(files[2].read_bytes())
    series = only(tmp_path)
    assert series.problem is None
    assert series.files == tuple(files)


def test_other_doubled_instances_are_told(tmp_path: Path) -> None:
    array = voxels()
    files = write_series(tmp_path / "a", array)
    other = pydicom.dcmread(files[2])
    other.PixelData = array[3].tobytes()
    save(tmp_path / "a" / "other.dcm", other)  # one UID, two images
    assert re.search(r"other.dcm: has the SOPInstanceUID of 3.dcm", problem(tmp_path / "a"))
    files = write_series(tmp_path / "b", array)
    other = pydicom.dcmread(files[2])
    other.SOPInstanceUID = "1.2.3"
    save(tmp_path / "b" / "other.dcm", other)  # two UIDs, one image
    assert re.search(r"other.dcm: the same slice as 3.dcm", problem(tmp_path / "b"))
    other.PixelData = array[3].tobytes()
    save(tmp_path / "b" / "other.dcm", other)  # two images at one place
    assert "no tag differs between them" in problem(tmp_path / "b")


@pytest.mark.parametrize(
    ("tag", "values", "label"),
    [
        ("EchoNumbers", (1, 2, 3), "echo"),
        ("TemporalPositionIdentifier", (1, 2, 3), "time"),
        ("DiffusionBValue", (0.0, 50.0, 800.0), "b"),
        ("AcquisitionNumber", (4, 5, 6), "acquisition"),
        ("ImageType", (["O", "P", "A"], ["O", "P", "B"], ["O", "P", "C"]), "type"),
    ],
)
def test_volumes_at_the_same_positions_are_parted(tmp_path: Path, tag: str, values: Any, label: str) -> None:
    arrays = [voxels(4, seed=seed) for seed in range(3)]
    for number, (array, value) in enumerate(zip(arrays, values, strict=True)):
        write_series(tmp_path / "s", array, name=f"{{}}-{number}", change=echo(tag, value, number))
    found = find_series(tmp_path)
    assert len(found) == 3
    for series, array in zip(found, arrays, strict=True):
        assert series.problem is None
        assert series.name.startswith(f"s_{label}")
        np.testing.assert_array_equal(read_series(series.files)[0], array)


def echo(tag: str, value: Any, part: int) -> Any:
    def change(number: int, dataset: Dataset) -> None:
        setattr(dataset, tag, value)
        dataset.SOPInstanceUID = f"1.2.{part + 1}.{number + 1}"

    return change


def test_phases_of_the_heart_are_parted_though_each_slice_has_its_own_times(tmp_path: Path) -> None:
    for phase in range(3):

        def change(number: int, dataset: Dataset, phase: int = phase) -> None:
            dataset.TriggerTime = 11 * number + 40 * phase
            dataset.SOPInstanceUID = f"1.2.{phase + 1}.{number + 1}"

        write_series(tmp_path, voxels(4, seed=phase), name=f"{{}}-{2 - phase}", change=change)
    for phase, series in enumerate(find_series(tmp_path)):
        assert series.name.endswith(f"phase{phase + 1:03d}")
        np.testing.assert_array_equal(read_series(series.files)[0], voxels(4, seed=phase))


def test_other_planes_and_sizes_in_a_series_are_parted(tmp_path: Path) -> None:
    write_series(tmp_path, voxels(4), name="a{}")
    write_series(tmp_path, voxels(3), name="b{}", change=echo("ImageOrientationPatient", [0, 1, 0, 0, 0, -1], 1))
    write_series(tmp_path, voxels(2, 10, 10), name="c{}", change=echo("StudyID", "x", 2))
    write_series(tmp_path, voxels(6), name="d{}", change=echo("PixelSpacing", [0.9, 0.7], 3))
    found = find_series(tmp_path)
    assert [len(series.files) for series in found] == [4, 3, 2, 6]
    # Those turned lie at one position: their step was along the axial normal.
    assert [series.problem is None for series in found] == [True, False, True, True]


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"PixelData": None}, "no pixel data"),
        ({"PixelSpacing": None}, "no PixelSpacing"),
        ({"PixelSpacing": [0, 1]}, "spacing is 0 x 1 mm"),
        ({"PixelSpacing": ["nan", 1]}, "PixelSpacing"),
        ({"ImagePositionPatient": ["0", "nan", "1"]}, "ImagePositionPatient"),
        ({"ImagePositionPatient": None}, "no ImagePositionPatient"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.5, 0.86, 0]}, "right angles"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "right angles"),
        ({"ImageOrientationPatient": [1, 0, 0]}, "6 finite numbers"),
        ({"RescaleSlope": "nan", "RescaleIntercept": 0}, "RescaleSlope"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "RescaleSlope"),
        ({"Rows": 0}, "0 x 16 pixels"),
        ({"Columns": 0}, "12 x 0 pixels"),
        ({"Rows": 65535, "Columns": 65535}, "at most"),
        ({"Rows": 60000, "Columns": 30000}, "bytes of pixel data"),
        ({"Rows": 13}, "bytes of pixel data"),
        ({"NumberOfFrames": 2}, "bytes of pixel data"),
        ({"BitsAllocated": 12}, "bits allocated"),
        ({"BitsStored": 17}, "bits allocated"),
        ({"SamplesPerPixel": 2}, "2 samples"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR"),
    ],
)
def test_each_useless_header_is_told(tmp_path: Path, tags: dict[str, Any], message: str) -> None:
    with pydicom.config.disable_value_validation():
        write_series(tmp_path, voxels(1 if "NumberOfFrames" in tags else 5), **tags)
    assert message in problem(tmp_path)


@pytest.mark.parametrize(
    ("syntax", "message"),
    [("1.2.840.10008.1.2.4.103", "not supported (MPEG-4"), ("1.2.840.10008.1.2.4.201", "not supported (High-Through")],
)
def test_syntaxes_that_cannot_be_decoded_are_told(tmp_path: Path, syntax: str, message: str) -> None:
    dataset = dicomfiles.compress(image(voxels(1)[0], "film"), syntax, lambda pixels: pixels.tobytes())
    save(tmp_path / "1.dcm", dataset)
    assert message in problem(tmp_path)


def test_every_truncation_is_told(tmp_path: Path) -> None:
    files = write_series(tmp_path)
    content = files[2].read_bytes()
    for length in (200, 600, 900, len(content) - 380, len(content) - 100, len(content) - 1):
        files[2].write_bytes(content[:length])
        found = find_series(tmp_path)
        bad = [series for series in found if series.problem]
        assert bad, length
        assert any("3.dcm" in (series.problem or "") for series in bad) or "missing" in (bad[0].problem or "")
    assert "truncated" in problem(tmp_path)


def test_an_unreadable_file_is_a_problem_of_its_own(tmp_path: Path) -> None:
    write_series(tmp_path / "s")
    (tmp_path / "s" / "bad.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 500)
    bad, good = sorted(find_series(tmp_path), key=lambda series: series.problem is None)
    assert (good.name, good.problem) == ("s", None)
    assert bad.name == "s_bad.dcm"
    assert "bad.dcm" in (bad.problem or "")


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1"])
def test_a_radiograph_is_a_volume_of_one_slice(tmp_path: Path, sop_class: str) -> None:
    pixels = voxels(1)[0].astype(np.uint16)
    tags = {"SOPClassUID": sop_class, "PixelSpacing": None, "ImagerPixelSpacing": [0.2, 0.3]}
    away = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "SliceThickness": None}
    save(tmp_path / "1", image(pixels, "cr", **tags, **away))
    array, grid = read_series(only(tmp_path).files)
    np.testing.assert_array_equal(array[0], pixels)
    assert (grid.size, grid.spacing, grid.origin) == ((16, 12, 1), (0.3, 0.2, 1.0), (0.0, 0.0, 0.0))


def test_an_ultrasound_image_has_the_spacing_of_its_region(tmp_path: Path) -> None:
    region = Dataset()
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.02, 0.03
    away = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"))
    save(tmp_path / "1", image(voxels(1)[0], "us", SequenceOfUltrasoundRegions=[region], **away))
    assert read_series(only(tmp_path).files)[1].spacing == (0.2, 0.3, 1.0)
    save(tmp_path / "1", image(voxels(1)[0], "us", SequenceOfUltrasoundRegions=[region, region], **away))
    assert "no PixelSpacing" in problem(tmp_path)


def test_enhanced_multi_frame_is_sorted_and_each_frame_rescaled(tmp_path: Path) -> None:
    array = voxels(5)
    save(tmp_path / "1", dicomfiles.enhanced(array, order=[3, 0, 4, 1, 2]))
    found, grid = read_series(only(tmp_path).files)
    scale = np.arange(5)[:, None, None]
    np.testing.assert_array_equal(found, array * (1.0 + scale) - scale)
    assert grid.spacing == (0.7, 0.8, 2.5)
    assert [part.frame for part in grid.slices] == [1, 3, 4, 0, 2]
    save(tmp_path / "1", dicomfiles.enhanced(array, order=[0, 1, 2, 4]))
    assert "1 slices are missing" in problem(tmp_path)
    save(tmp_path / "1", dicomfiles.enhanced(array, order=[0, 1, 1, 2]))
    assert "two slices lie at one position" in problem(tmp_path)
    film = image(array[0], "film", NumberOfFrames=5, PixelData=array.tobytes())
    save(tmp_path / "1", film)
    assert "holds 5 frames, and a position for 0" in problem(tmp_path)


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    files = write_series(outside / "s")
    source = tmp_path / "source"
    (source / "a").mkdir(parents=True)
    (source / "a" / "up").symlink_to(source)
    (source / "a" / "again").symlink_to(source)  # two circles: their paths would double with each level
    (source / "a" / "self").symlink_to(source / "a" / "self")
    (source / "b").symlink_to(outside / "s")
    (source / "c").symlink_to(outside)  # the same folder again, by another way
    (source / "1.dcm").symlink_to(files[0])  # and a file of it
    (source / "broken.dcm").symlink_to(source / "nowhere")
    os.mkfifo(source / "pipe")
    (source / "null").symlink_to("/dev/zero")
    before = sorted(path.name for path in outside.rglob("*"))
    series = only(source)
    assert series.problem is None
    assert len(series.files) == 5
    assert sorted(path.name for path in outside.rglob("*")) == before


def test_big_endian_and_implicit_files_are_read(tmp_path: Path) -> None:
    array = voxels()
    for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian):
        swapped = array.astype(">i2") if syntax == ExplicitVRBigEndian else array
        files = write_series(tmp_path / syntax, swapped, syntax=syntax)
        np.testing.assert_array_equal(read_series(only(tmp_path / syntax).files)[0], array)
        np.testing.assert_array_equal(by_itk(tuple(files))[0], array)


def at_places(places: list[float]) -> Any:
    def change(number: int, dataset: Dataset) -> None:
        dataset.ImagePositionPatient = [-10, 20, places[number]]

    return change


@pytest.mark.parametrize("step", [0.3125, 0.625, 1.25, 2.5])
@pytest.mark.parametrize("digits", [1, 2])
def test_positions_that_are_rounded_are_even(tmp_path: Path, step: float, digits: int) -> None:
    """What counts is how far a slice lies from where it should be, not how much of a gap that is.

    https://github.com/icometrix/dicom2nifti/issues/36
    https://github.com/moloney/dcmstack/issues/55
    """
    places = [round(3.3 + number * step, digits) for number in range(24)]
    files = write_series(tmp_path, voxels(24), change=at_places(places))
    assert only(tmp_path).problem is None
    assert read_series(files)[1].spacing[2] == pytest.approx(step, abs=0.005)
    (tmp_path / "8.dcm").unlink()
    (tmp_path / "15.dcm").unlink()
    assert "2 slices are missing" in problem(tmp_path)


def test_positions_that_are_uneven_are_said_to_be(tmp_path: Path) -> None:
    """Half a slice too many is not a rounding, nor a missing slice; an error that grows is not seen in a gap.

    https://github.com/Slicer/Slicer/pull/7339
    """
    write_series(tmp_path / "a", voxels(20), change=at_places([k * 1.9 - 0.476 * (k > 9) for k in range(20)]))
    words = r"varies \(10.dcm and 11.dcm lie 1.424 mm apart, others 1.9 mm; up to 0.\d+ mm beside an even grid\)"
    assert re.search(words, problem(tmp_path / "a"))
    write_series(tmp_path / "b", voxels(60), change=at_places([k + 0.0004 * k * k for k in range(60)]))
    assert "varies" in problem(tmp_path / "b")
    write_series(tmp_path / "c", voxels(20), change=at_places([5 * k + 0.4 * (k == 7) for k in range(20)]))
    assert only(tmp_path / "c").problem is None  # a twelfth of a slice


def test_slices_at_one_place_are_so_to_the_last_digit_but_one(tmp_path: Path) -> None:
    """Echoes whose positions are rounded each for itself; and a scan of small things, which lies in as small steps."""
    for part in range(2):

        def change(number: int, dataset: Dataset, part: int = part) -> None:
            echo("EchoNumbers", part, part)(number, dataset)
            dataset.ImagePositionPatient = [-10, 20, round(2.498 * number + 0.006 * part, 2)]

        write_series(tmp_path / "a", voxels(4, seed=part), name=f"{{}}-{part}", change=change)
    found = find_series(tmp_path / "a")
    assert [(series.problem, len(series.files)) for series in found] == [(None, 4), (None, 4)]
    write_series(tmp_path / "b", PixelSpacing=[0.01, 0.01], change=at_places([0.01 * k for k in range(5)]))
    assert only(tmp_path / "b").problem is None


def test_orientations_are_alike_when_their_corners_are(tmp_path: Path) -> None:
    """Cosines of one series may be rounded; in a large image the same difference is another plane.

    https://github.com/ImagingDataCommons/highdicom/pull/405
    https://github.com/ivmartel/dwv/issues/2185
    """

    def turned(number: int, dataset: Dataset) -> None:
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0.004 * (number % 2)]

    write_series(tmp_path / "small", voxels(4, 64, 64), change=turned)
    assert only(tmp_path / "small").problem is None
    write_series(tmp_path / "large", voxels(4, 400, 16), change=turned)
    assert len(find_series(tmp_path / "large")) == 2


def test_spacings_are_alike_when_their_corners_are(tmp_path: Path) -> None:
    """Not when they differ by less than a per cent: over 400 pixels that is four.

    https://github.com/nipy/heudiconv/pull/842
    https://github.com/CBICA/CaPTk/pull/1224
    """

    def rounded(number: int, dataset: Dataset) -> None:
        dataset.PixelSpacing = [0.7, 0.7 if number % 2 else 0.7031]

    write_series(tmp_path / "small", voxels(4, 16, 64), change=rounded)
    assert only(tmp_path / "small").problem is None
    write_series(tmp_path / "large", voxels(4, 16, 400), change=rounded)
    assert len(find_series(tmp_path / "large")) == 2


def test_right_angles_are_those_of_corners(tmp_path: Path) -> None:
    """Cosines rounded to two digits are good enough for a small image, and not for a large one.

    https://github.com/nilearn/nilearn/issues/3115
    """
    oblique = [0.66, 0.74, 0.13, -0.71, 0.56, 0.43]  # their product is 0.0017, their lengths are 1.0000 and 1.0014
    write_series(tmp_path / "small", voxels(3, 64, 64), ImageOrientationPatient=oblique)
    assert only(tmp_path / "small").problem is None
    skewed = [1, 0, 0, 0.004, 1, 0]
    write_series(tmp_path / "middle", voxels(3, 200, 16), ImageOrientationPatient=skewed)
    assert only(tmp_path / "middle").problem is None
    write_series(tmp_path / "large", voxels(3, 600, 16), ImageOrientationPatient=skewed)
    assert "no two unit vectors at right angles" in problem(tmp_path / "large")


def test_positions_are_taken_and_not_the_spacing_that_a_tag_states(tmp_path: Path) -> None:
    """SpacingBetweenSlices is optional, and often wrong; that it is so is said.

    https://github.com/BRAINSia/BRAINSTools/issues/334
    https://github.com/OHIF/Viewers/issues/4352
    """
    files = write_series(tmp_path / "a", SpacingBetweenSlices=5)
    with noted() as notes:
        assert read_series(files)[1].spacing[2] == 2.5
    words = "a: SpacingBetweenSlices is 5 mm, but positions lie 2.5 mm apart; the positions were taken"
    assert notes == [f"{tmp_path}/{words}"]
    for value in (2.5, -2.5, 2.4, 0):
        files = write_series(tmp_path / "b", SpacingBetweenSlices=value)
        assert read_series(files)[1].spacing[2] == 2.5


def test_a_table_of_values_is_not_passed_over(tmp_path: Path) -> None:
    """Where there is one, slope and intercept do not count; in angiography it is the table that does not.

    https://github.com/fo-dicom/fo-dicom/pull/844
    https://github.com/Enet4/dicom-rs/issues/242
    https://github.com/fo-dicom/fo-dicom/issues/1442
    """
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [3, 0, 16], "HU"
    table.add_new("LUTData", "US", [0, 100, 10000])
    write_series(tmp_path / "a", ModalityLUTSequence=[table])
    assert "its values are mapped by a table (ModalityLUTSequence), which is not supported" in problem(tmp_path / "a")
    angiography = "1.2.840.10008.5.1.4.1.1.12.1"
    files = write_series(tmp_path / "b", ModalityLUTSequence=[table], SOPClassUID=angiography)
    np.testing.assert_array_equal(read_series(files)[0], voxels())
