"""The kind of scan that a source says it is."""

from pathlib import Path

from jcl.data.modality import modality_of
from jcl.data.sources import SliceFiles
from support.dicomfiles import write_series


def test_dicom_says_it_and_other_files_do_not(tmp_path: Path) -> None:
    for given, found in (("CT", "CT"), ("MR", "MR"), (None, "")):
        folder = tmp_path / str(given)
        assert modality_of(SliceFiles(folder, tuple(write_series(folder, Modality=given)))) == found
    assert modality_of(tmp_path / "scan.nii.gz") == ""
