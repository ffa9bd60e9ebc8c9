"""Prediction with a network that is known: each written voxel can be told from its own intensity."""

import itertools
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

import jcl
from jcl.config import PredictConfig
from jcl.data.context import with_context
from jcl.data.dicom.structures import read_structures
from jcl.data.notes import DataNote
from jcl.data.sources import SliceFiles
from jcl.data.volumes import read_image
from jcl.errors import DataError, UsageError
from jcl.inference import overview
from jcl.stages.predict import predict
from support.dicomfiles import write_series
from support.niftifiles import save_placed
from support.thresholds import make_recipe_of, threshold_network, write_run

THRESHOLD = 0.505
"""Of an intensity scaled to [0, 1]; sources have whole values from 0 to 100, none of which is near it."""
LABELS = {205: "Myo"}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run that segments as 205 what is above half the intensity."""
    return write_run(tmp_path_factory.mktemp("run") / "run", threshold_network(THRESHOLD), make_recipe_of(LABELS))


def settings(run: Path, source: Path, out: Path, **more) -> PredictConfig:
    return PredictConfig(**{"run": run, "source": source, "out": out, "precision": "float32", "batch_size": 4, **more})


def scan(*shape: int, seed: int = 0) -> np.ndarray:
    """Whole numbers from 0 to 100, both of which occur."""
    values = np.random.default_rng(seed).integers(0, 101, size=shape).astype(np.int16)
    values.flat[0], values.flat[1] = 0, 100
    return values


def save(path: Path, array: np.ndarray, *, spacing=None, origin=None, direction=None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    if spacing is not None:
        image.SetSpacing(spacing)
    if origin is not None:
        image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(np.asarray(direction, float).ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path


def check_result(path: Path, source: Path, value: int = 205) -> None:
    """The written file has the source's geometry, and each voxel the class of its own intensity."""
    written, image = sitk.ReadImage(str(path)), sitk.ReadImage(str(source))
    assert written.GetSize() == image.GetSize()
    for get in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(written, get)() == pytest.approx(getattr(image, get)(), abs=1e-5), get
    intensities = sitk.GetArrayFromImage(image)
    assert np.array_equal(sitk.GetArrayFromImage(written), np.where(intensities > 100 * THRESHOLD, value, 0))


def test_a_scan_at_another_scale_is_segmented_and_noted(tmp_path, capsys):
    """Without --spacing nothing is resampled: a scan of 0.3 mm shows all four times as large as those of 1.2."""
    far = save(tmp_path / "scans" / "far.nii.gz", scan(5, 6, 7), spacing=(0.3, 0.3, 4.0))
    save(tmp_path / "scans" / "near.nii.gz", scan(5, 6, 7), spacing=(1.0, 1.0, 4.0))
    seen = {"pixels": [1.2, 1.2], "slices": [4.0, 4.0]}
    run = write_run(tmp_path / "run", threshold_network(THRESHOLD), make_recipe_of(LABELS), seen_mm=seen)
    written = predict(settings(run, tmp_path / "scans", tmp_path / "out"))
    check_result(written[0], far)
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1
    assert f"{far}: its pixels are 0.3 mm apart, those trained on 1.2 mm" in notes[0]
    with pytest.warns(DataNote, match=r"0\.3 mm apart"):
        jcl.load(run).segment(far)


def test_a_scan_of_another_plane_is_segmented_and_noted(tmp_path, capsys):
    """A coronal reformat lies in the folder of many an axial scan."""
    coronal = save(
        tmp_path / "scans" / "coronal.nii.gz", scan(5, 6, 7), spacing=(1.0, 1.0, 4.0), direction=turned(90, 0)
    )
    save(tmp_path / "scans" / "axial.nii.gz", scan(5, 6, 7), spacing=(1.0, 1.0, 4.0), direction=turned(10, 0))
    save(tmp_path / "scans" / "picture.png", (25 * scan(1, 6, 7)[0]).astype(np.uint8))
    seen = {"direction": [0.0, 0.0, 1.0], "within": 0.0}
    run = write_run(tmp_path / "run", threshold_network(THRESHOLD), make_recipe_of(LABELS), seen_plane=seen)
    check_result(predict(settings(run, tmp_path / "scans", tmp_path / "out"))[1], coronal)
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1
    assert f"{coronal}: its slices are coronal, those trained on axial (90 degrees apart)" in notes[0]
    with pytest.warns(DataNote, match="90 degrees apart"):
        jcl.load(run).segment(coronal)


def test_a_window_decides_what_is_segmented_and_what_an_overview_shows(tmp_path, monkeypatch):
    """Half of the window from 20 to 60 is 40; by percentiles of the scan it would be 50."""
    shown: list[np.ndarray] = []
    monkeypatch.setattr(overview, "draw_overview", lambda image, *rest: shown.append(image) or b"")
    source = save(tmp_path / "scans" / "ct.nii.gz", scan(5, 6, 7))
    recipe = make_recipe_of(LABELS, window=(20.0, 60.0))
    run = write_run(tmp_path / "run", threshold_network(THRESHOLD), recipe)
    (written,) = predict(settings(run, tmp_path / "scans", tmp_path / "out", overview=True))
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(source)))
    wanted = np.where(values > 20 + 40 * THRESHOLD, 205, 0)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(written))), wanted)
    assert (shown[0].min(), shown[0].max()) == (20, 60)
    found = jcl.load(run).segment(source, precision="float32")
    assert np.array_equal(found, wanted)
    save(tmp_path / "far" / "far.nii.gz", scan(5, 6, 7) + 1000)
    with pytest.raises(DataError, match="1 of 1 scans could not be segmented"):
        predict(settings(run, tmp_path / "far", tmp_path / "none"))


AXES = [
    np.array([[float(i == p) * s for i in range(3)] for p, s in zip(places, signs, strict=True)]).T
    for places in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def turned(degrees: float, axis: int) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    a, b = [other for other in range(3) if other != axis]
    matrix[a, a], matrix[a, b], matrix[b, a], matrix[b, b] = c, -s, s, c
    return matrix


def test_geometry_returns_from_all_orientations(run, tmp_path):
    directions = [*AXES, turned(20, 0) @ turned(-35, 2), turned(12, 1) @ AXES[29]]
    spacings = [(1.0, 1.5, 4.0), (4.0, 1.0, 1.5), (1.1, 1.0, 1.05)]
    for number, direction in enumerate(directions):
        array = scan(5, 6, 7, seed=number)
        path = tmp_path / "scans" / f"s{number:02d}.nii.gz"
        save(path, array, spacing=spacings[number % 3], origin=(10.5, -20.25, 7 * number), direction=direction)
    predict(settings(run, tmp_path / "scans", tmp_path / "out"))
    for number in range(len(directions)):
        name = f"s{number:02d}.nii.gz"
        check_result(tmp_path / "out" / name, tmp_path / "scans" / name)
        affines = [nibabel.load(tmp_path / folder / name).affine for folder in ("scans", "out")]
        assert np.allclose(*affines, atol=1e-4)
    assert len(directions) == 50


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd"])
def test_formats(run, tmp_path, suffix):
    source = save(tmp_path / "in" / f"a b{suffix}", scan(3, 9, 8), spacing=(0.5, 0.75, 3))
    assert predict(settings(run, source, tmp_path / "out")) == [tmp_path / "out" / f"a b{suffix}"]
    check_result(tmp_path / "out" / f"a b{suffix}", source)


def test_a_scan_whose_header_says_two_places_is_answered_in_both(run, tmp_path, capsys):
    """The mask lay beside the scan in MITK, where the scan was shown by its qform.

    https://github.com/spinalcordtoolbox/spinalcordtoolbox/issues/2106
    """
    moved, affine = np.diag([-1, -1, 5.0, 1]), np.diag([-1, -1, 5.0, 1])
    moved[:3, 3] = 9, -7, 20
    source = save_placed(tmp_path / "in" / "x.nii", scan(3, 9, 8).T, sform=moved, qform=affine, codes=(2, 1))
    (path,) = predict(settings(run, source, tmp_path / "out"))
    assert "note: " in (said := capsys.readouterr().err)
    assert f"{source}: its sform and its qform lie 9 voxels apart; the sform was taken" in said
    for form in ("get_sform", "get_qform"):
        for one, other in zip(
            *(getattr(nibabel.load(p).header, form)(coded=True) for p in (source, path)), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    values = np.asarray(nibabel.load(source).dataobj)
    np.testing.assert_array_equal(np.asarray(nibabel.load(path).dataobj), np.where(values > 100 * THRESHOLD, 205, 0))


def test_2d_images(run, tmp_path):
    source = save(tmp_path / "x.png", scan(9, 14).astype(np.uint8))
    (written,) = predict(settings(run, source, tmp_path / "out"))
    assert written.name == "x.png"
    check_result(written, source)


@pytest.mark.parametrize("shape", [(4, 16, 16), (1, 8, 9), (3, 40, 21)])
def test_slices_smaller_and_larger_than_the_store(run, tmp_path, shape):
    source = save(tmp_path / "x.nii.gz", scan(*shape), spacing=(1, 1, 5))
    check_result(*predict(settings(run, source, tmp_path / "out")), source)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batch_size_changes_nothing(run, tmp_path, batch_size):
    source = save(tmp_path / "x.nii.gz", scan(7, 10, 12), spacing=(1, 1, 5))
    check_result(*predict(settings(run, source, tmp_path / "out", batch_size=batch_size)), source)


@pytest.mark.parametrize(("slices", "batch_size"), [(1, 4), (2, 1), (7, 3), (7, 100)])
@pytest.mark.parametrize("more", [{}, {"mirror": True}, {"volumes": True}])
def test_neighbours_are_gathered(tmp_path, slices, batch_size, more):
    """The network looks at the next slice alone; behind the last that is the last itself."""
    recipe = with_context(make_recipe_of(LABELS, padded=(16, 16)), 1)
    run = write_run(tmp_path / "run", threshold_network(THRESHOLD, channels=3), recipe)
    array = scan(slices, 10, 12)
    source = save(tmp_path / "x.nii.gz", array, spacing=(1, 1, 5))
    path, *_ = predict(settings(run, source, tmp_path / "out", batch_size=batch_size, **more))
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(path))) > 0
    assert np.array_equal(found, (array > 50.5)[[*range(1, slices), slices - 1]])
    labels = jcl.load(run).segment(source, batch_size=batch_size)
    assert np.array_equal(labels > 0, found)


def test_label_values_are_those_of_the_data_set(tmp_path):
    recipe = make_recipe_of({200: "Myo", 70000: "LV"})
    run = write_run(tmp_path / "run", threshold_network(0.305, 0.705), recipe)
    array = scan(3, 9, 8)
    (path,) = predict(settings(run, save(tmp_path / "x.nii.gz", array, spacing=(1, 1, 5)), tmp_path / "out"))
    expected = np.select([array > 70.5, array > 30.5], [70000, 200], 0)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), expected)


@pytest.mark.parametrize("spacing", [(0.7, 1.1), (2.3, 1.9), (0.45, 2.2)])
def test_resampled_and_back(tmp_path, spacing):
    """A smooth ball, segmented at 1.5 mm, comes back to its place on the source's grid, finer or coarser."""
    run = write_run(tmp_path / "run", threshold_network(0.5), make_recipe_of(LABELS, spacing=1.5, padded=(48, 48)))
    rows, columns = (round(70 / s) for s in spacing)
    row, column = (np.arange(rows) + 0.5)[:, None] * spacing[0], (np.arange(columns) + 0.5) * spacing[1]
    distance = np.hypot(row - 31.3, column - 38.9)
    ball = np.stack([1000 / (1 + np.exp((distance - 15 - z) / 3)) for z in range(4)]).astype(np.float32)
    source = save(tmp_path / "x.nii.gz", ball, spacing=(spacing[1], spacing[0], 6.0))
    (path,) = predict(settings(run, source, tmp_path / "out"))
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(path))) > 0
    # The volume's smallest and largest values scale it, so half of the range is the threshold.
    truth = ball > (ball.min() + ball.max()) / 2
    assert 2 * (written & truth).sum() / (written.sum() + truth.sum()) > 0.985
    for found, known in zip(np.argwhere(written).mean(0), np.argwhere(truth).mean(0), strict=True):
        assert found == pytest.approx(known, abs=0.15)
    edge = np.abs(distance[None] - 15 - np.arange(4)[:, None, None])
    assert not (written != truth)[edge > 1.5 * max(*spacing, 1.5)].any()


def test_folders_are_searched_and_labels_left_out(run, tmp_path):
    base = tmp_path / "scans with a spaço"
    for folder in ("imagesTr", "imagesTs", "labelsTr"):
        save(base / folder / f"{folder[-2:]}1.nii.gz", scan(2, 8, 8), spacing=(1, 1, 5))
    (base / "imagesTr" / "._x.nii.gz").write_bytes(b"left by macOS")
    (base / "dataset.json").write_text("{}")
    written = predict(settings(run, base, tmp_path / "out"))
    assert [path.name for path in written] == ["Tr1.nii.gz", "Ts1.nii.gz"]


def test_labels_beside_their_images_are_left_out(tmp_path):
    run = write_run(tmp_path / "run", threshold_network(THRESHOLD), make_recipe_of(LABELS, name="chd"))
    for kind in ("image", "label"):
        save(tmp_path / "scans" / f"ct_1001_{kind}.nii.gz", scan(2, 8, 8), spacing=(1, 1, 5))
    save(tmp_path / "scans" / "other.nii.gz", scan(2, 8, 8), spacing=(1, 1, 5))
    names = [path.name for path in predict(settings(run, tmp_path / "scans", tmp_path / "out"))]
    assert len(names) == 2
    assert not any("label" in name for name in names)


def test_the_same_command_twice(run, tmp_path):
    """Results below the source are no scans, and are written again."""
    source = save(tmp_path / "scans" / "x.nii.gz", scan(2, 8, 8), spacing=(1, 1, 5))
    for _ in range(2):
        written = predict(settings(run, source.parent, source.parent / "results"))
        assert [path.name for path in written] == ["x.nii.gz"]
        check_result(*written, source)


def test_nothing_else_is_left_behind(run, tmp_path):
    save(tmp_path / "scans" / "x.nii.gz", scan(2, 8, 8), spacing=(1, 1, 5))
    predict(settings(run, tmp_path / "scans", tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.nii.gz"]


def test_a_bad_scan_is_set_aside_and_named(run, tmp_path, capsys):
    for name in ("a", "b", "c", "d"):
        save(tmp_path / "scans" / f"{name}.nii.gz", scan(3, 8, 8), spacing=(1, 1, 5))
    bad = tmp_path / "scans" / "b.nii.gz"
    bad.write_bytes(bad.read_bytes()[:-20])
    save(tmp_path / "scans" / "c.nii.gz", np.full((3, 8, 8), 7, np.int16))
    with pytest.raises(DataError, match="2 of 4 scans") as failure:
        predict(settings(run, tmp_path / "scans", tmp_path / "out"))
    assert failure.value.exit_code == 3
    told = str(failure.value) + capsys.readouterr().err
    assert "b.nii.gz" in told
    assert "c.nii.gz" in told
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.nii.gz", "d.nii.gz"]
    check_result(tmp_path / "out" / "d.nii.gz", tmp_path / "scans" / "d.nii.gz")


@pytest.fixture(scope="module")
def two_channels(tmp_path_factory) -> Path:
    """A run on two channels that looks at the second."""
    recipe = make_recipe_of(LABELS, channels=2)
    return write_run(tmp_path_factory.mktemp("two") / "run", threshold_network(THRESHOLD, channels=2), recipe)


def test_channels_in_files(two_channels, tmp_path):
    for case, channel in itertools.product(("p1", "p2"), (0, 1)):
        path = tmp_path / "scans" / f"{case}_{channel:04d}.nii.gz"
        save(path, scan(3, 8, 9, seed=channel), spacing=(1, 1, 5))
    written = predict(settings(two_channels, tmp_path / "scans", tmp_path / "out"))
    assert [path.name for path in written] == ["p1.nii.gz", "p2.nii.gz"]
    check_result(written[1], tmp_path / "scans" / "p2_0001.nii.gz")


def test_one_file_of_several_channels_stands_for_its_scan(two_channels, tmp_path):
    paths = [save(tmp_path / f"p1_{n:04d}.nii.gz", scan(3, 8, 9, seed=n), spacing=(1, 1, 5)) for n in (0, 1)]
    save(tmp_path / "p10_0000.nii.gz", scan(3, 8, 9), spacing=(1, 1, 5))
    (written,) = predict(settings(two_channels, paths[0], tmp_path / "out"))
    assert written.name == "p1.nii.gz"
    check_result(written, paths[1])


def test_a_missing_channel_sets_one_scan_aside(two_channels, tmp_path):
    for name in ("p1_0000", "p2_0000", "p2_0001"):
        save(tmp_path / "scans" / f"{name}.nii.gz", scan(3, 8, 9), spacing=(1, 1, 5))
    with pytest.raises(DataError, match="1 of 2 scans"):
        predict(settings(two_channels, tmp_path / "scans", tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["p2.nii.gz"]


def test_channels_in_a_fourth_axis(two_channels, tmp_path):
    array = np.stack([scan(3, 8, 9, seed=0), scan(3, 8, 9, seed=1)])
    image = nibabel.Nifti1Image(np.ascontiguousarray(array.T), np.diag([1, 1, 5, 1.0]))
    nibabel.save(image, tmp_path / "x.nii.gz")
    (written,) = predict(settings(two_channels, tmp_path / "x.nii.gz", tmp_path / "out"))
    result = nibabel.load(written)
    assert np.array_equal(np.asarray(result.dataobj).T, np.where(array[1] > 100 * THRESHOLD, 205, 0))
    assert np.allclose(result.affine, image.affine)


def test_the_scans_are_never_overwritten(run, tmp_path):
    source = save(tmp_path / "scans" / "x.nii.gz", scan(2, 8, 8), spacing=(1, 1, 5))
    before = source.read_bytes()
    for given in (source, source.parent):
        with pytest.raises(UsageError, match="overwrit"):
            predict(settings(run, given, tmp_path / "scans"))
    assert source.read_bytes() == before


def test_what_is_refused(run, tmp_path):
    source = save(tmp_path / "scans" / "x.nii.gz", scan(2, 8, 8), spacing=(1, 1, 5))
    with pytest.raises(DataError, match="no such file or folder"):
        predict(settings(run, tmp_path / "nothing", tmp_path / "out"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image"):
        predict(settings(run, tmp_path / "empty", tmp_path / "out"))
    with pytest.raises(DataError, match="not a run folder"):
        predict(settings(tmp_path / "empty", source, tmp_path / "out"))
    with pytest.raises(UsageError, match="batch_size is 0"):
        predict(settings(run, source, tmp_path / "out", batch_size=0))
    with pytest.raises(DataError, match="cannot be written"):
        predict(settings(run, source, source))


def test_damaged_weights_are_refused(tmp_path):
    run = write_run(tmp_path / "run", threshold_network(0.5), make_recipe_of(LABELS))
    weights = bytearray((run / "model.safetensors").read_bytes())
    weights[-9] ^= 4
    (run / "model.safetensors").write_bytes(weights)
    source = save(tmp_path / "x.nii.gz", scan(2, 8, 8), spacing=(1, 1, 5))
    with pytest.raises(DataError, match=r"model.safetensors: damaged"):
        predict(settings(run, source, tmp_path / "out"))


def test_a_full_disk_stops_at_once(run, tmp_path, monkeypatch):
    """It is no fault of the scan, and the next would fail too."""
    for name in ("a", "b"):
        save(tmp_path / "scans" / f"{name}.nii.gz", scan(2, 8, 8), spacing=(1, 1, 5))
    from jcl.files import write_error
    from jcl.inference import segment_scan as module

    def full(path, labels, geometry):
        raise write_error(path, OSError(28, "No space left on device"))

    monkeypatch.setattr(module, "write_label", full)
    with pytest.raises(DataError, match=r"a.nii.gz: cannot be written \(No space left on device\)"):
        predict(settings(run, tmp_path / "scans", tmp_path / "out"))


def test_dicom_series_are_answered_in_their_own_geometry(run, tmp_path):
    """Slices go the other way than the files' names, rows run backwards, and two studies lie side by side."""
    studies = tmp_path / "studies"
    arrays = {"anna": scan(5, 6, 7, seed=1).astype(np.int16), "ben": scan(4, 8, 6, seed=2).astype(np.int16)}
    for name, array in arrays.items():
        orientation = [1, 0, 0, 0, -1, 0] if name == "anna" else [0, 1, 0, 0, 0, -1]
        write_series(studies / name, array, series=name, ImageOrientationPatient=orientation, step=3)
    written = predict(PredictConfig(run=run, source=studies, out=tmp_path / "out"))
    assert [path.name for path in written] == ["anna.nii.gz", "ben.nii.gz"]
    for name in arrays:
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(studies / name)))
        sitk.WriteImage(reader.Execute(), str(tmp_path / f"{name}.nii.gz"))
        check_result(tmp_path / "out" / f"{name}.nii.gz", tmp_path / f"{name}.nii.gz")


@pytest.mark.parametrize("orientation", [[1, 0, 0, 0, 1, 0], [1, 0, 0, 0, -1, 0], [0, 1, 0, 0, 0, -1]])
def test_a_dicom_segmentation_points_at_its_series(run, tmp_path, orientation):
    array = scan(5, 6, 7).astype(np.int16)
    files = write_series(tmp_path / "study", array, series="a", ImageOrientationPatient=orientation)
    predict(PredictConfig(run=run, source=tmp_path / "study", out=tmp_path / "out", dicom_seg=True))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["study.dcm", "study.nii.gz"]
    found = highdicom.seg.segread(tmp_path / "out" / "study.dcm")
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in files]
    voxels = found.get_pixels_by_source_instance(uids, segment_numbers=[1])[..., 0]
    np.testing.assert_array_equal(voxels, array > 100 * THRESHOLD)


def test_contours_in_an_rtstruct_enclose_the_same_voxels(run, tmp_path):
    array = scan(5, 6, 7).astype(np.int16)
    files = write_series(tmp_path / "study", array, series="a", ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    predict(PredictConfig(run=run, source=tmp_path / "study", out=tmp_path / "out", rtstruct=True))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["study.nii.gz", "study.rtstruct.dcm"]
    geometry = read_image([SliceFiles(tmp_path / "study", tuple(files))]).geometry
    found = read_structures(tmp_path / "out" / "study.rtstruct.dcm", geometry.affine, geometry.size, {"Myo": 1})
    np.testing.assert_array_equal(found, array > 100 * THRESHOLD)


def test_one_dicom_file_is_a_scan(run, tmp_path):
    (file,) = write_series(tmp_path / "study", scan(1, 6, 7).astype(np.int16), series="a")
    (written,) = predict(PredictConfig(run=run, source=file, out=tmp_path / "out"))
    assert sitk.ReadImage(str(written)).GetSize() == (7, 6, 1)


def test_a_series_with_a_gap_is_set_aside(run, tmp_path, capsys):
    write_series(tmp_path / "studies" / "good", scan(5, 6, 7).astype(np.int16), series="a")
    write_series(tmp_path / "studies" / "bad", scan(5, 6, 7).astype(np.int16), series="b")[2].unlink()
    with pytest.raises(DataError, match="1 of 2 scans could not be segmented"):
        predict(PredictConfig(run=run, source=tmp_path / "studies", out=tmp_path / "out"))
    assert "bad" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.nii.gz"]
