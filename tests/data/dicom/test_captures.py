"""Screen captures and dose reports in a study are no slices, and no cases."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from jcl.data.dicom.series import search_series
from support.dicomfiles import image, save, voxels, write_series

PAGE = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
UNPLACED = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None}


def page(path: Path, **tags: object) -> Path:
    """An image of a screen or a page, which has no place in the patient."""
    return save(path, image(PAGE, path.name, **{**UNPLACED, "SeriesInstanceUID": f"1.2.{path.stem}", **tags}))


def image_series(path: Path) -> str:
    return str(pydicom.dcmread(path).SeriesInstanceUID)


@pytest.mark.parametrize(
    ("tags", "kind"),
    [
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "secondary capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.4"}, "secondary capture"),
        ({"SeriesDescription": "Dose Report"}, "screen capture or dose report"),
        ({"SeriesDescription": "Patient Protocol"}, "screen capture or dose report"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "screen capture or dose report"),
        ({"ImageType": ["DERIVED", "SECONDARY", "OTHER", "CT_SOM5 PROT"]}, "screen capture or dose report"),
        ({"ImageType": ["DERIVED", "SECONDARY", "DOSE_INFO"]}, "screen capture or dose report"),
    ],
)
def test_pages_are_left_out_and_counted(tmp_path: Path, tags: dict[str, object], kind: str) -> None:
    """Converters keep them as one more volume: https://github.com/icometrix/dicom2nifti/issues/161,
    https://github.com/rordenlab/dcm2niix/issues/731.
    """
    write_series(tmp_path / "ct")
    page(tmp_path / "999.dcm", **tags)
    found = search_series(tmp_path)
    assert [series.name for series in found.series] == ["ct"]
    assert found.left_out == {kind: 1}


def test_secondary_captures_alone_are_pictures_as_any(tmp_path: Path) -> None:
    page(tmp_path / "1.dcm", SOPClassUID=SecondaryCaptureImageStorage, PixelSpacing=[1, 1])
    found = search_series(tmp_path)
    assert [series.problem for series in found.series] == [None]
    assert not found.left_out


def test_secondary_captures_with_a_place_are_slices(tmp_path: Path) -> None:
    """As programs write processed volumes: https://github.com/dgobbi/vtk-dicom/issues/236."""
    write_series(tmp_path / "derived", SOPClassUID=SecondaryCaptureImageStorage)
    found = search_series(tmp_path)
    assert [len(series.files) for series in found.series] == [5]


def test_a_single_image_of_another_orientation_is_no_case(tmp_path: Path) -> None:
    """https://github.com/DIAGNijmegen/rse-panimg/issues/126: one frame of a CT series lies across the others."""
    files = write_series(tmp_path / "ct", voxels(6))
    across = image(voxels(1)[0], "across", ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    across.SeriesInstanceUID = image_series(files[0])
    save(tmp_path / "ct" / "7.dcm", across)
    found = {len(series.files): series.problem for series in search_series(tmp_path).series}
    assert found[6] is None
    assert "7.dcm: a single image of another size or orientation than the 6 others of its series" in str(found[1])


def test_copies_are_counted(tmp_path: Path) -> None:
    files = write_series(tmp_path / "ct")
    (tmp_path / "ct" / "again.dcm").write_bytes(files[2].read_bytes())
    assert search_series(tmp_path).left_out == {"copy of another file": 1}
