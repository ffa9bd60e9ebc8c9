"""Labels are told from scans by what they hold."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from jcl.data.labelmaps import looks_like_labels, refuse_label_map
from jcl.data.volumes import read_image
from jcl.errors import DataError

SHAPE = (6, 40, 40)


def scan(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, SHAPE).astype(np.int16)


def regions(count: int, side: int = 4) -> np.ndarray:
    """`count` boxes of different values."""
    array = np.zeros(SHAPE, np.int16)
    for value in range(1, count + 1):
        row, column = divmod(value - 1, SHAPE[2] // side)
        array[1:4, side * row : side * (row + 1), side * column : side * (column + 1)] = value
    return array


def save(path: Path, array: np.ndarray, spacing: tuple[float, ...] = (1.0, 1.0, 3.0)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (regions(1), True),
        (regions(7), True),
        (regions(100), True),  # as TotalSegmentator's
        (regions(1) * 255, True),
        (scan(), False),
        ((scan() // 16).clip(0), False),  # a dozen values, but noise
        (regions(3) + 0.5 * regions(1), False),  # shares, not whole values
        (-regions(2), False),
        (np.random.default_rng(0).poisson(0.8, SHAPE), True),  # nine values or fewer: counts are not told apart
    ],
)
def test_what_labels_look_like(array: np.ndarray, expected: bool) -> None:
    assert looks_like_labels(array[None].astype(np.float32)) is expected


@pytest.mark.parametrize("name", ["p1/x7.nii.gz", "p1/scan_other.nii.gz", "derived/scan.nii.gz"])
def test_labels_on_the_grid_of_a_scan_are_refused_whatever_their_name(tmp_path: Path, name: str) -> None:
    """Masks that lie beside scans, named as their owners please: https://github.com/MouseLand/cellpose/issues/1124."""
    save(tmp_path / "p1" / "scan.nii.gz", scan())
    path = save(tmp_path / name, regions(2))
    with pytest.raises(DataError, match=r"not a scan but labels, by its few whole values and the grid of .*scan\.nii"):
        refuse_label_map(path, read_image([path]), tmp_path)


def test_without_a_scan_on_their_grid_nothing_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", regions(2))
    save(tmp_path / "b.nii.gz", regions(3))
    save(tmp_path / "c.nii.gz", scan(), (1.0, 1.0, 5.0))
    (tmp_path / "d.nii.gz").write_bytes(b"not a scan")
    refuse_label_map(path, read_image([path]), tmp_path)
    save(tmp_path.parent / "outside.nii.gz", scan())
    refuse_label_map(path, read_image([path]), tmp_path)


def test_a_scan_beside_labels_is_a_scan(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", scan(1))
    save(tmp_path / "b.nii.gz", regions(1))
    refuse_label_map(path, read_image([path]), tmp_path)
