"""The real DICOM series: found as two, sorted, and the same voxels and places as SimpleITK finds."""

import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from jcl.data.dicom.segmentation import write_segmentation
from jcl.data.dicom.series import find_series
from jcl.data.dicom.voxels import read_series
from support.dicomfiles import voxels, write_series

pytestmark = pytest.mark.realdata


def test_two_series_are_found_and_read_as_simpleitk_does(realdata: Path) -> None:
    found = find_series(realdata / "dicom")
    assert [(series.name, series.patient, len(series.files)) for series in found] == [
        ("study1_hippocampus_crop", "PGBM-002", 32),
        ("study3_t1post", "PGBM-003", 22),
    ]
    assert [file.name for file in found[0].files] == [f"{number}.dcm" for number in range(1, 33)]
    assert [file.name for file in found[1].files] != sorted(file.name for file in found[1].files)
    for series in found:
        assert series.problem is None
        array, grid = read_series(series.files)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames([str(file) for file in series.files])
        image = reader.Execute()
        np.testing.assert_array_equal(array, sitk.GetArrayFromImage(image))
        assert grid.size == image.GetSize()
        np.testing.assert_allclose(grid.spacing, image.GetSpacing(), rtol=1e-9)
        np.testing.assert_allclose(grid.origin, image.GetOrigin(), rtol=1e-9)
        np.testing.assert_allclose(grid.direction, image.GetDirection(), atol=1e-9)


def test_a_segmentation_of_a_real_series_is_written(realdata: Path, tmp_path: Path) -> None:
    for series in find_series(realdata / "dicom"):
        array, _ = read_series(series.files)
        write_segmentation(
            tmp_path / series.name, (array > np.median(array)).astype(np.uint8), series.files, ["bright"]
        )
        assert (tmp_path / series.name).stat().st_size > array.size // 8


def test_scanning_takes_a_few_seconds_per_thousand_files(tmp_path: Path) -> None:
    for number in range(10):
        write_series(tmp_path / f"p{number}", voxels(30, 8, 8), series=str(number))
    start = time.process_time()  # other work on the machine does not count
    found = find_series(tmp_path)
    taken = time.process_time() - start
    print(f"{taken:.2f} s for 300 files")
    assert len(found) == 10
    assert not any(series.problem for series in found)
    assert taken < 5
