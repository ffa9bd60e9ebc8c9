"""A DICOM-SEG that is written is read back by highdicom and by hand: each class lies on the right source images."""

import sys
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from jcl import __version__
from jcl.data.dicom.segmentation import write_segmentation
from jcl.data.dicom.series import find_series
from jcl.errors import DataError, UsageError
from jcl.files import WriteError
from support.dicomfiles import enhanced, save, voxels, write_series

NAMES = ("liver", "left kidney")


def labels(slices: int = 5) -> np.ndarray:
    """Each slice has its own pattern, so that none can be taken for another."""
    array = np.zeros((slices, 12, 16), np.uint8)
    for at in range(slices):
        array[at, 2 : 4 + at, 3:9] = 1
        array[at, 11 - at :, 10:] = 2
    array[1] = 0  # nothing on one slice
    return array


def by_hand(path: Path) -> dict[tuple[int, str], np.ndarray]:
    """Pixels of each frame, by segment and by the source image that the frame names."""
    dataset = pydicom.dcmread(path)
    found: dict[tuple[int, str], np.ndarray] = {}
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        segment = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        found[segment, source] = frame
    return found


def test_each_class_lies_on_its_source_images(tmp_path: Path) -> None:
    """The files' names run against the slices, and rows run the other way than usual."""
    files = write_series(tmp_path / "in", ImageOrientationPatient=[1, 0, 0, 0, 0, -1], name="{}")
    for number, file in enumerate(files):
        file.rename(tmp_path / "in" / f"f{9 - number}")
    (series,) = find_series(tmp_path / "in")
    array = labels()
    write_segmentation(tmp_path / "seg.dcm", array, series.files, NAMES)
    found = by_hand(tmp_path / "seg.dcm")
    assert len(found) == 8  # four slices of two classes; empty ones are left out
    for at, file in enumerate(series.files):
        uid = pydicom.dcmread(file).SOPInstanceUID
        for number in (1, 2):
            frame = found.get((number, uid), np.zeros((12, 16)))
            np.testing.assert_array_equal(frame, array[at] == number)
    segmentation = highdicom.seg.segread(tmp_path / "seg.dcm")
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in series.files]
    again = segmentation.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(again, array)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["seg.dcm"]


def test_it_belongs_to_patient_study_and_series_of_its_source(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in")
    write_segmentation(tmp_path / "seg.dcm", labels(), files, NAMES)
    dataset, source = pydicom.dcmread(tmp_path / "seg.dcm"), pydicom.dcmread(files[0])
    for name in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert dataset[name].value == source[name].value
    assert dataset.Modality == "SEG"
    assert dataset.SOPClassUID == pydicom.uid.SegmentationStorage
    (referenced,) = dataset.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == source.SeriesInstanceUID != dataset.SeriesInstanceUID
    uids = {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence}
    assert uids == {pydicom.dcmread(file).SOPInstanceUID for file in files}
    assert [segment.SegmentLabel for segment in dataset.SegmentSequence] == list(NAMES)
    for segment in dataset.SegmentSequence:
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        assert segment.SegmentAlgorithmName == "jcl"
        assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == __version__
    # It is no scan: a folder of results can be a source again.
    (series,) = find_series(tmp_path)
    assert len(series.files) == 5


def test_the_same_segmentation_is_the_same_object(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in")
    uids: list[str] = []
    for array in (labels(), labels(), labels() * 2 % 3):
        write_segmentation(tmp_path / "seg.dcm", array, files, NAMES)
        uids.append(pydicom.dcmread(tmp_path / "seg.dcm").SOPInstanceUID)
    assert uids[0] == uids[1] != uids[2]


def test_frames_of_one_file_are_pointed_at(tmp_path: Path) -> None:
    order = [3, 0, 4, 1, 2]
    file = save(tmp_path / "in" / "1", enhanced(voxels(), order=order))
    array = labels()
    write_segmentation(tmp_path / "seg.dcm", array, [file], NAMES)
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    for frame, group in zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        number = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        segment = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        at = order[number - 1]
        np.testing.assert_array_equal(frame, array[at] == segment)
        assert group.PlanePositionSequence[0].ImagePositionPatient[2] == 5 + 2.5 * at


def test_what_anonymising_leaves_is_enough(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", PatientID=None, PatientName=None, SeriesNumber=None, SeriesDescription=None)
    write_segmentation(tmp_path / "seg.dcm", labels(), files, ["a" * 80, "\\"])
    assert pydicom.dcmread(tmp_path / "seg.dcm").PatientID == ""


def test_an_empty_segmentation_is_written(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in")
    write_segmentation(tmp_path / "seg.dcm", labels() * 0, files, NAMES)
    assert not pydicom.dcmread(tmp_path / "seg.dcm").pixel_array.any()


def test_what_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_series(tmp_path / "in")
    with pytest.raises(ValueError, match="shape"):
        write_segmentation(tmp_path / "seg.dcm", labels()[1:], files, NAMES)
    with pytest.raises(ValueError, match="classes are named"):
        write_segmentation(tmp_path / "seg.dcm", labels(), files, NAMES[:1])
    with pytest.raises(WriteError, match=r"nowhere/seg.dcm: cannot be written"):
        write_segmentation(tmp_path / "nowhere" / "seg.dcm", labels(), files, NAMES)

    def change(number: int, dataset: Dataset) -> None:
        del dataset.FrameOfReferenceUID

    with pytest.raises(DataError, match=r"in/1.dcm: has no FrameOfReferenceUID"):
        write_segmentation(tmp_path / "seg.dcm", labels(), write_series(tmp_path / "in", change=change), NAMES)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(UsageError, match=r"pip install 'jcl-seg\[dicom-seg\]'"):
        write_segmentation(tmp_path / "seg.dcm", labels(), files, NAMES)
    assert not list(tmp_path.glob("*.dcm"))
