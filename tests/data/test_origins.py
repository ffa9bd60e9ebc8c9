"""Where slices come from: the slice that is named has, in its own file, what the store has."""

import hashlib
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from data.test_volumes import ORIENTATIONS, SUFFIXES, rotation
from jcl.config import PrepareConfig
from jcl.data.origins import SliceOrigin, slice_origins
from jcl.data.store import Store
from jcl.errors import DataError
from jcl.stages.prepare import prepare
from support.dicomfiles import write_series

SIZES = (5, 8, 7)


def save(path: Path, direction: np.ndarray, *, seed: int = 0, spacing=(1.0, 1.5, 4.0)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(np.random.default_rng(seed).integers(0, 1000, SIZES).astype(np.int16))
    image.SetSpacing(spacing)
    image.SetOrigin((10.5, -20.25, 7))
    image.SetDirection(direction.ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path


def prepared(source: Path, **more) -> Store:
    out = source.with_name(f"{source.name} store")
    prepare(PrepareConfig(source=source, out=out, workers=1, **more))
    return Store.open(out)


def plane(array: np.ndarray, origin: SliceOrigin) -> np.ndarray:
    """A slice of a file's voxels (z, y, x)."""
    return np.take(array, origin.index, axis="zyx".index(origin.axis))


def assert_same_values(store: Store, case: int, number: int, voxels: np.ndarray, *, channel: int = 0) -> None:
    """The store's slice is a turned and scaled one of these voxels; clipped at both ends."""
    found = store.image(case, number)[channel][store.content(case)]
    ranks = [np.sort(each.ravel().astype(float)) for each in (found, voxels)]
    middle = slice(len(ranks[0]) // 5, -len(ranks[0]) // 5)
    assert np.corrcoef(ranks[0][middle], ranks[1][middle])[0, 1] > 0.9999
    assert sorted(found.shape) == sorted(voxels.shape)
    brightest = (found >= found.max()).sum()
    assert {*voxels.ravel()[np.argsort(voxels.ravel())[-brightest:]]} >= {voxels.max()}


@pytest.mark.slow
def test_every_way_to_store_a_volume(tmp_path: Path):
    """All orientations, straight and oblique, with the slices along any of the axes."""
    spacings = [(1.0, 1.5, 4.0), (4.0, 1.0, 1.5), (1.0, 4.0, 1.5), (1.1, 1.0, 1.05)]
    directions = [*ORIENTATIONS, *(rotation(25) @ each for each in ORIENTATIONS[::5])]
    for number, direction in enumerate(directions):
        path = tmp_path / "scans" / f"s{number:02d}.nii.gz"
        save(path, direction, seed=number, spacing=spacings[number % 4])
    store = prepared(tmp_path / "scans")
    seen: set[tuple[str, bool]] = set()
    for case, record in enumerate(store.cases):
        image = sitk.ReadImage(str(tmp_path / "scans" / f"{record.case}.nii.gz"))
        array = sitk.GetArrayFromImage(image)
        origins = slice_origins(record, tmp_path / "scans")
        assert len(origins) == record.slices
        for slice_number, origin in enumerate(origins):
            assert origin.file == f"{record.case}.nii.gz"
            assert_same_values(store, case, slice_number, plane(array, origin))
            at = [(size - 1) / 2 for size in image.GetSize()]
            at["xyz".index(origin.axis)] = origin.index
            assert origin.centre == pytest.approx(image.TransformContinuousIndexToPhysicalPoint(at), abs=1e-3)
        seen.add((origins[0].axis, origins[0].index > 0))
    assert seen == {(axis, flipped) for axis in "xyz" for flipped in (False, True)}


def test_the_number_is_that_of_nibabel_too(tmp_path: Path):
    """Whose arrays are x, y, z: what most scripts use."""
    save(tmp_path / "scans" / "a.nii.gz", ORIENTATIONS[29])
    store = prepared(tmp_path / "scans")
    array = np.asarray(nibabel.load(tmp_path / "scans" / "a.nii.gz").dataobj)
    for number, origin in enumerate(slice_origins(store.cases[0], tmp_path / "scans")):
        assert_same_values(store, 0, number, np.take(array, origin.index, axis="xyz".index(origin.axis)))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_formats(tmp_path: Path, suffix: str):
    path = save(tmp_path / "scans" / f"a{suffix}", ORIENTATIONS[3])
    store = prepared(tmp_path / "scans")
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    for number, origin in enumerate(slice_origins(store.cases[0], tmp_path / "scans")):
        assert_same_values(store, 0, number, plane(array, origin))


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1)])
def test_of_a_series_the_file_is_that_of_the_slice(tmp_path: Path, orientation: tuple[int, ...]):
    write_series(tmp_path / "scans" / "a", name="x{:02d}.dcm", ImageOrientationPatient=list(orientation))
    store = prepared(tmp_path / "scans")
    for number, origin in enumerate(slice_origins(store.cases[0], tmp_path / "scans")):
        dataset = pydicom.dcmread(tmp_path / "scans" / origin.file)
        assert_same_values(store, 0, number, dataset.pixel_array)
        assert origin.axis == "z"
        assert origin.index in (number, store.cases[0].slices - 1 - number)
        along = np.cross(*np.reshape(orientation, (2, 3)))
        assert np.dot(origin.centre, along) == pytest.approx(np.dot(dataset.ImagePositionPatient, along))


def test_a_picture_is_one_slice(tmp_path: Path):
    (tmp_path / "scans").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (9, 7)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(tmp_path / "scans" / "a.png"))
    store = prepared(tmp_path / "scans")
    (origin,) = slice_origins(store.cases[0], tmp_path / "scans")
    assert (origin.file, origin.axis, origin.index) == ("a.png", "z", 0)


def test_files_that_are_not_those_of_the_store(tmp_path: Path):
    path = save(tmp_path / "scans" / "a.nii.gz", ORIENTATIONS[0])
    store = prepared(tmp_path / "scans")
    digest = store.cases[0].source["images"][0][1]
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    save(path, ORIENTATIONS[0], seed=1)
    with pytest.raises(DataError, match=r"a\.nii\.gz: has changed since the store was made"):
        slice_origins(store.cases[0], tmp_path / "scans")
    path.unlink()
    with pytest.raises(DataError, match=r"a\.nii\.gz: no such file; give --source"):
        slice_origins(store.cases[0], tmp_path / "scans")
