"""What `predict` writes besides segmentations, and how several runs and views decide."""

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from jcl.cli import main as cli
from jcl.config import PredictConfig
from jcl.data.sources import SliceFiles
from jcl.errors import DataError, UsageError
from jcl.files import read_json
from jcl.stages.predict import predict
from stages.test_predict import AXES, LABELS, save, scan, settings, turned
from support.dicomfiles import write_series
from support.thresholds import make_recipe_of, threshold_network, write_run

ALL = {"probabilities": True, "doubt": True, "volumes": True, "overview": True}


def run_of(folder: Path, threshold: float = 0.505, shapes: dict | None = None, **recipe) -> Path:
    run = write_run(folder, threshold_network(threshold), make_recipe_of(LABELS, **recipe))
    if shapes:
        from jcl.files import write_json

        write_json(run / "run.json", {**read_json(run / "run.json"), **shapes}, seal=True)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return run_of(tmp_path_factory.mktemp("run") / "run")


def test_all_that_is_asked_for_and_the_same_segmentation(run, tmp_path, capsys):
    for name in ("a", "b c"):
        save(tmp_path / "scans" / f"{name}.nii.gz", scan(5, 12, 14), spacing=(1, 1.5, 5))
    plain = predict(settings(run, tmp_path / "scans", tmp_path / "plain"))
    more = predict(settings(run, tmp_path / "scans", tmp_path / "more", **ALL))
    assert [path.read_bytes() for path in plain] == [path.read_bytes() for path in more]
    files = sorted(p.relative_to(tmp_path / "more").as_posix() for p in (tmp_path / "more").rglob("*") if p.is_file())
    names = ("a", "b c")
    assert files == sorted(
        [*(f"{n}.nii.gz" for n in names), *(f"doubt/{n}.nii.gz" for n in names), "volumes.csv", "volumes.json",
         *(f"probabilities/{n}.nii.gz" for n in names), *(f"overview/{n}.png" for n in names)]
    )  # fmt: skip
    assert "most doubt: " in capsys.readouterr().err


def test_maps_lie_where_the_scan_does(run, tmp_path):
    """In all orientations, oblique ones too; scores and doubt are those of each voxel's own intensity."""
    directions = [*AXES[::7], turned(20, 0) @ turned(-35, 2)]
    for number, direction in enumerate(directions):
        path = tmp_path / "scans" / f"s{number:02d}.nii.gz"
        save(path, scan(5, 6, 7, seed=number), spacing=(1.0, 1.5, 4.0), origin=(10.5, -20.25, 7), direction=direction)
    predict(settings(run, tmp_path / "scans", tmp_path / "out", **ALL))
    for number in range(len(directions)):
        name = f"s{number:02d}.nii.gz"
        image = nibabel.load(tmp_path / "scans" / name)
        scaled = np.asarray(image.dataobj) / 100
        p = 1 / (1 + np.exp(-50 * (scaled - 0.505)))
        found = nibabel.load(tmp_path / "out" / "probabilities" / name)
        assert found.shape == (*image.shape, 2)
        assert found.get_data_dtype() == np.float32
        np.testing.assert_allclose(np.asarray(found.dataobj), np.stack([1 - p, p], axis=-1), atol=2e-3)
        doubt = nibabel.load(tmp_path / "out" / "doubt" / name)
        entropy = -(p * np.log2(np.maximum(p, 1e-12)) + (1 - p) * np.log2(np.maximum(1 - p, 1e-12)))
        np.testing.assert_allclose(np.asarray(doubt.dataobj), entropy, atol=5e-3)
        for each in (found, doubt):
            np.testing.assert_allclose(each.affine, image.affine, atol=1e-6)
            for form in ("get_sform", "get_qform"):
                assert getattr(each.header, form)(coded=True)[1] == getattr(image.header, form)(coded=True)[1]


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".png"])
def test_maps_of_other_formats_are_nifti(run, tmp_path, suffix):
    array = scan(9, 14).astype(np.uint8) if suffix == ".png" else scan(3, 9, 8)
    place = {} if suffix == ".png" else {"spacing": (0.5, 0.75, 3), "origin": (1, 2, 3), "direction": AXES[29]}
    source = save(tmp_path / f"x{suffix}", array, **place)
    predict(settings(run, source, tmp_path / "out", **ALL))
    image = sitk.ReadImage(str(source))
    doubt = sitk.ReadImage(str(tmp_path / "out" / "doubt" / "x.nii.gz"))
    scores = sitk.ReadImage(str(tmp_path / "out" / "probabilities" / "x.nii.gz"))
    assert doubt.GetSize()[: image.GetDimension()] == image.GetSize()
    assert scores.GetSize() == (*doubt.GetSize(), 2)
    if suffix != ".png":
        for get in ("GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(doubt, get)() == pytest.approx(getattr(image, get)(), abs=1e-5)
        assert scores.GetSpacing()[:3] == pytest.approx(image.GetSpacing())
    values = sitk.GetArrayFromImage(scores)
    np.testing.assert_allclose(values.sum(0), 1, atol=2e-3)
    assert np.array_equal(values[1] > 0.5, (array > 50.5).reshape(values[1].shape))


def test_volumes_are_those_of_the_written_file(run, tmp_path):
    for number, spacing in enumerate([(1.0, 1.5, 4.0), (0.7, 0.7, 9.9)]):
        save(tmp_path / "scans" / f"s{number}.nii.gz", scan(5, 6, 7), spacing=spacing, direction=turned(12, 1))
    written = predict(settings(run, tmp_path / "scans", tmp_path / "out", volumes=True))
    table = read_json(tmp_path / "out" / "volumes.json")["scans"]
    for path in written:
        image = sitk.ReadImage(str(path))
        voxels = int((sitk.GetArrayFromImage(image) == 205).sum())
        found = table[path.name.removesuffix(".nii.gz")]
        assert found["structures"]["Myo"]["voxels"] == voxels > 0
        assert found["structures"]["Myo"]["ml"] == pytest.approx(voxels * np.prod(image.GetSpacing()) / 1000, rel=1e-5)
    assert not (tmp_path / "out" / "doubt").exists()


def test_scans_that_came_later_are_added_to_the_tables(run, tmp_path):
    for name in ("b", "a"):
        source = save(tmp_path / name / f"{name}.nii.gz", scan(3, 6, 7), spacing=(1, 1, 5))
        predict(settings(run, source, tmp_path / "out", volumes=True))
    assert list(read_json(tmp_path / "out" / "volumes.json")["scans"]) == ["a", "b"]


def test_the_mean_of_runs_decides(tmp_path):
    runs = tuple(run_of(tmp_path / f"run-{n}", t) for n, t in enumerate((0.305, 0.505, 0.625)))
    array = scan(4, 9, 8)
    source = save(tmp_path / "x.nii.gz", array, spacing=(1, 1, 5))
    (path,) = predict(settings(runs, source, tmp_path / "out"))
    p = np.mean([1 / (1 + np.exp(-50 * (array / 100 - t))) for t in (0.305, 0.505, 0.625)], axis=0)
    clear = np.abs(p - 0.5) > 1e-3
    assert np.array_equal((sitk.GetArrayFromImage(sitk.ReadImage(str(path))) > 0)[clear], (p > 0.5)[clear])


def test_runs_of_other_preparations(tmp_path):
    runs = (run_of(tmp_path / "own", 0.5), run_of(tmp_path / "coarse", 0.5, spacing=2.0, padded=(32, 32)))
    rows, columns = np.mgrid[:40, :44]
    ball = np.stack([1000 / (1 + np.exp((np.hypot(rows - 19, columns - 22) - 11 - z) / 3)) for z in range(4)])
    source = save(tmp_path / "x.nii.gz", ball.astype(np.float32), spacing=(1, 1, 5))
    (path,) = predict(settings(runs, source, tmp_path / "out", tta=True, mirror=True, **ALL))
    found, truth = sitk.GetArrayFromImage(sitk.ReadImage(str(path))) > 0, ball > 500
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.97


def test_postprocessing_goes_by_the_record_of_the_run(tmp_path, capsys):
    array = np.zeros((5, 12, 12), np.int16)
    array[:, 2:9, 2:9] = 100
    array[2, 5, 5] = 0
    array[1, 11, 10:] = 100
    source = save(tmp_path / "x.nii.gz", array, spacing=(1, 1, 5))
    knows = run_of(tmp_path / "knows", shapes={"one_piece": ["Myo"], "without_holes": ["Myo"]})
    ignorant = run_of(tmp_path / "ignorant")

    def voxels(run, postprocess: str) -> int:
        (path,) = predict(settings(run, source, tmp_path / "out", postprocess=postprocess))
        return int((sitk.GetArrayFromImage(sitk.ReadImage(str(path))) > 0).sum())

    whole = 5 * 49
    assert voxels(knows, "off") == voxels(ignorant, "auto") == whole - 1 + 2
    assert "nothing done, since no run says" in capsys.readouterr().err
    (path,) = predict(settings(knows, source, tmp_path / "out", postprocess="auto"))
    expected = np.zeros_like(array)
    expected[:, 2:9, 2:9] = 205
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), expected)
    said = "postprocess: in 1 of 1 scans 1 pieces (2 voxels) removed, 1 holes (1 voxels) filled"
    assert said in capsys.readouterr().err
    assert voxels((knows, ignorant), "auto") == whole + 1  # one does not know


def test_dicom_series_have_their_maps(run, tmp_path):
    files = write_series(tmp_path / "study", scan(5, 6, 7).astype(np.int16), series="a")
    predict(PredictConfig(run=run, source=tmp_path / "study", out=tmp_path / "out", **ALL))
    from jcl.data.volumes import read_image

    geometry = read_image([SliceFiles(tmp_path / "study", tuple(files))]).geometry
    for name in ("doubt", "probabilities"):
        image = nibabel.load(tmp_path / "out" / name / "study.nii.gz")
        lps = np.diag([-1, -1, 1, 1]) @ image.affine
        np.testing.assert_allclose(lps[:3], geometry.affine[:3], atol=1e-3)


def test_scans_are_not_overwritten_by_maps_either(run, tmp_path):
    source = save(tmp_path / "doubt" / "x.nii.gz", scan(2, 8, 8), spacing=(1, 1, 5))
    before = source.read_bytes()
    with pytest.raises(UsageError, match="overwrit"):
        predict(settings(run, source, tmp_path, doubt=True))
    assert source.read_bytes() == before


def test_runs_that_disagree_are_one_line(run, tmp_path, capsys):
    other = write_run(tmp_path / "other", threshold_network(0.5), make_recipe_of({205: "LV"}))
    source = save(tmp_path / "x.nii.gz", scan(2, 8, 8), spacing=(1, 1, 5))
    with pytest.raises(DataError, match="have not the same classes"):
        predict(settings((run, other), source, tmp_path / "out"))
    assert cli.main(["predict", str(run), str(other), str(source), "--out", str(tmp_path / "out")]) == 3
    error = capsys.readouterr().err
    assert str(run) in error
    assert str(other) in error
    assert error.count("\n") == 1


def test_all_but_the_last_place_are_runs(monkeypatch):
    called = []
    monkeypatch.setattr(cli.Command, "run", lambda command, given: called.append(given) or [])
    one, two, three = Path("a"), Path("b"), Path("c")
    for words in (["a", "s"], ["a", "b", "s"], ["a", "--tta", "b", "c", "s"]):
        assert cli.main(["predict", *words, "--out", "o"]) == 0
    assert [given.runs for given in called] == [(one,), (one, two), (one, two, three)]
    assert {given.source for given in called} == {Path("s")}
    assert called[0].run == one


@pytest.mark.parametrize(("tta", "mirror"), [*itertools.product((False, True), repeat=2)])
def test_views_leave_a_smooth_ball_where_it_is(run, tmp_path, tta, mirror):
    rows, columns = np.mgrid[:32, :40]
    ball = np.stack([100 / (1 + np.exp((np.hypot(rows - 17, columns - 24) - 8 - z) / 2)) for z in range(4)])
    source = save(tmp_path / "x.nii.gz", ball.astype(np.float32), spacing=(1, 1, 5))
    (path,) = predict(settings(run, source, tmp_path / "out", tta=tta, mirror=mirror))
    found, truth = sitk.GetArrayFromImage(sitk.ReadImage(str(path))) > 0, ball > 50
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.96
