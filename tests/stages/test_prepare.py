"""Preparing: what is in the store, what is skipped, and what interruptions, damage and full disks do to it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.data import get_testdata_file

from jcl.config import PrepareConfig
from jcl.data.cases import CaseSource
from jcl.data.intensities import normalise
from jcl.data.manifest import write_sealed
from jcl.data.preparation import Job
from jcl.data.resampling import resample_image
from jcl.data.store import Store
from jcl.data.volumes import read_image
from jcl.errors import DataError, UsageError
from jcl.parallel.pool import InProcessPool, ProcessPool
from jcl.stages import prepare as stage
from jcl.stages.prepare import prepare

RUN = (
    # a shell that starts its jobs in the background has them ignore Ctrl-C, and so would this
    "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\nfrom pathlib import Path\n"
    "from jcl.config import PrepareConfig\nfrom jcl.errors import JclError\n"
    "from jcl.stages.prepare import prepare\n"
    "if __name__ == '__main__':\n"
    "    source, out, workers = sys.argv[1:]\n"
    "    try:\n        prepare(PrepareConfig(source=Path(source), out=Path(out), workers=int(workers)))\n"
    "    except JclError as error:\n        print(error)\n        raise SystemExit(error.exit_code)\n"
)


def save(path: Path, array: np.ndarray, spacing: tuple[float, ...] = (1.0, 1.0, 3.0)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[: image.GetDimension()])
    sitk.WriteImage(image, str(path))
    return path


def make_scans(folder: Path, count: int = 4, shape: tuple[int, int, int] = (5, 30, 26), labelled: int = 99) -> Path:
    """Volumes with two structures in noise."""
    for number in range(count):
        random = np.random.default_rng(number)
        labels = np.zeros(shape, np.uint8)
        labels[1:4, 4:12, 5:15] = 1
        labels[2:5, 14:24, 8:20] = 3
        save(folder / "images" / f"scan{number}.nii.gz", (random.normal(0, 9, shape) + 60 * labels).astype(np.int16))
        if number < labelled:
            save(folder / "labels" / f"scan{number}.nii.gz", labels)
    return folder


def run(source: Path, out: Path, **options: Any) -> Store:
    return prepare(PrepareConfig(source=source, out=out, **{"workers": 1, **options}))


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def start(source: Path, out: Path, workers: int = 1) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", RUN, str(source), str(out), str(workers)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_store_holds_the_slices_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_scans(tmp_path / "scans", labelled=3)
    store = run(source, tmp_path / "store", labels="3=spleen,1=liver")
    assert [(record.case, record.patient, record.labelled) for record in store.cases] == [
        (f"scan{number}", f"scan{number}", number < 3) for number in range(4)
    ]
    assert (store.size, store.channels, store.class_names) == ((32, 32), 1, ("spleen", "liver"))
    assert not store.skipped
    assert not store.verify()
    volume = read_image([source / "images" / "scan1.nii.gz"])
    expected = normalise(volume.array)
    rows, columns = store.content(1)
    for at in range(5):
        np.testing.assert_allclose(store.image(1, at)[:, rows, columns], expected[:, at], atol=1.3e-4)
    raw = sitk.GetArrayFromImage(sitk.ReadImage(str(source / "labels" / "scan1.nii.gz")))
    found = np.stack([store.label(1, at)[rows, columns] for at in range(5)])
    np.testing.assert_array_equal(found, np.where(raw == 3, 1, np.where(raw == 1, 2, 0)))
    assert store.counted(1) == {"spleen": 3 * 10 * 12, "liver": 3 * 8 * 10}
    said = capsys.readouterr().err
    assert f"{tmp_path / 'store'}: 4 cases (3 with labels) of 4 patients, 20 slices of 32 x 32 pixels" in said


def test_spacing_size_and_patients(tmp_path: Path) -> None:
    source = make_scans(tmp_path / "scans", count=2)
    store = run(source, tmp_path / "store", spacing=0.5, size=64, patient=r"^(sc)an")
    assert {record.patient for record in store.cases} == {"sc"}
    assert store.cases[0].shape == (60, 52)
    assert store.cases[0].spacing == (3.0, 0.5, 0.5)
    assert store.size == (64, 64)
    volume = read_image([source / "images" / "scan0.nii.gz"])
    expected, _ = resample_image(normalise(volume.array), volume.spacing, 0.5)
    rows, columns = store.content(0)
    np.testing.assert_allclose(store.image(0, 2)[:, rows, columns], expected[:, 2], atol=1.3e-4)
    assert set(np.unique(store.label(0, 2))) == {0, 1, 2}


def test_a_window_in_the_place_of_percentiles(tmp_path: Path) -> None:
    source = make_scans(tmp_path / "scans", count=2)
    raw = [sitk.GetArrayFromImage(sitk.ReadImage(str(source / "images" / f"scan{n}.nii.gz"))) for n in range(2)]
    low, high = float(np.percentile(raw[0], 20)), float(np.percentile(raw[0], 70))
    store = run(source, tmp_path / "store", window=(low, high))
    assert store.preparation["window"] == [low, high]
    for number, array in enumerate(raw):
        rows, columns = store.content(number)
        expected = ((array - low) / (high - low)).clip(0, 1)
        np.testing.assert_allclose(store.image(number, 2)[0, rows, columns], expected[2], atol=1.3e-4)
        shares = pytest.approx([(array < low).mean(), (array > high).mean()], abs=1e-4)
        assert list(store.cases[number].outside) == shares
    with pytest.raises(UsageError, match=r"made with other options \(window: "):
        run(source, tmp_path / "store")
    save(source / "images" / "scan1.nii.gz", (raw[1] + 5000).astype(np.int16))
    (skipped,) = run(source, tmp_path / "far", window=(low, high)).skipped
    assert skipped.reason.startswith("images/scan1.nii.gz: its values, ")
    assert f"all lie outside of the window {low:g} to {high:g}; " in skipped.reason


def test_hounsfield_units_of_a_real_ct(tmp_path: Path) -> None:
    """A slice that comes with pydicom: stored from 128 to 2191, with an intercept of -1024."""
    file = Path(str(get_testdata_file("CT_small.dcm", download=False)))
    (tmp_path / "scans" / "patient").mkdir(parents=True)
    shutil.copy(file, tmp_path / "scans" / "patient" / "a.dcm")
    store = run(tmp_path / "scans", tmp_path / "store", window=(-160.0, 240.0))
    (record,) = store.cases
    units = pydicom.dcmread(file).pixel_array.astype(float) - 1024
    np.testing.assert_allclose(store.image(0, 0)[0], ((units + 160) / 400).clip(0, 1), atol=1.3e-4)
    assert record.outside == pytest.approx(((units < -160).mean(), (units > 240).mean()), abs=1e-4)
    assert record.modality == "CT"


def test_the_recipe_has_what_prediction_needs(tmp_path: Path) -> None:
    recipe = run(make_scans(tmp_path / "scans"), tmp_path / "store", labels="1=a,3=b,4=a").preparation
    assert recipe["labels"] == {"1": "a", "3": "b", "4": "a"}
    assert (recipe["classes"], recipe["class_values"]) == (["a", "b"], [1, 3])
    assert (recipe["clip"], recipe["normalisation"], recipe["spacing"]) == ([1.0, 99.0], "minmax", None)
    assert (recipe["channels"], recipe["padded"], recipe["size"], recipe["dataset"]) == (1, [32, 32], None, "folder")
    assert json.loads(json.dumps(recipe)) == recipe


def test_values_without_names_are_named_by_themselves(tmp_path: Path) -> None:
    source = make_scans(tmp_path / "scans")
    save(source / "labels" / "scan0.nii.gz", np.full((5, 30, 26), 200, np.int16))
    store = run(source, tmp_path / "store")
    assert store.class_names == ("1", "3", "200")
    assert store.counted(0) == {"1": 0, "3": 0, "200": 5 * 30 * 26}


def test_a_decathlon_folder_with_channels(tmp_path: Path) -> None:
    source = tmp_path / "Task 1"
    parts = np.random.default_rng(0).integers(0, 99, (2, 5, 30, 26)).astype(np.int16)
    image = sitk.JoinSeries([sitk.GetImageFromArray(part) for part in parts])
    (source / "imagesTr").mkdir(parents=True)
    sitk.WriteImage(image, str(source / "imagesTr" / "a_1.nii.gz"))
    save(source / "labelsTr" / "a_1.nii.gz", (parts[0] > 50).astype(np.float32), (1.0, 1.0, 1.0))
    content = {"modality": {"0": "T1", "1": "T2"}, "labels": {"0": "background", "1": "bright"}, "name": "Two"}
    (source / "dataset.json").write_text(json.dumps(content))
    store = run(source, tmp_path / "store")
    assert (store.channels, store.class_names, store.preparation["title"]) == (2, ("bright",), "Two")
    assert store.image(0, 0).shape == (2, 32, 32)
    assert store.counted(0) == {"bright": int((parts[0] > 50).sum())}


def test_flat_images_are_volumes_of_one_slice(tmp_path: Path) -> None:
    source = tmp_path / "scans"
    for number in range(2):
        array = np.random.default_rng(number).integers(0, 255, (20, 30)).astype(np.uint8)
        save(source / "images" / f"{number}.png", array)
        save(source / "labels" / f"{number}.png", (array > 99).astype(np.uint8))
    store = run(source, tmp_path / "store")
    assert [(record.slices, record.shape) for record in store.cases] == [(1, (20, 30))] * 2
    assert store.label(1, 0).any()


def test_the_size_of_a_data_set_grows_but_not_one_that_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_scans(tmp_path / "scans")
    save(source / "images" / "wide.nii.gz", np.random.default_rng(0).normal(size=(4, 30, 50)).astype(np.float32))
    (tmp_path / "mine.toml").write_text("layout = 'folder'\nsize = 40\n")
    store = run(source, tmp_path / "store", dataset=str(tmp_path / "mine.toml"))
    assert store.size == (40, 64)
    assert "size of 40 was too small for some slices, and grew" in capsys.readouterr().err
    given = run(source, tmp_path / "given", size=40)
    assert given.size == (40, 40)
    assert [entry.reason for entry in given.skipped] == [
        "images/wide.nii.gz: its slices have 30 x 50 pixels, more than the size 40; grow --size or raise --spacing"
    ]


def break_files(source: Path) -> dict[str, str]:
    """Cases that cannot be used, and a part of the reason for each."""
    images, labels = source / "images", source / "labels"
    good = np.random.default_rng(0).normal(50, 20, (5, 30, 26)).astype(np.float32)
    bad = good.copy()
    bad[0, 0, 0] = np.nan
    save(images / "nan.nii.gz", bad)
    save(images / "constant.nrrd", np.ones((5, 30, 26), np.int16))
    (images / "text.nii.gz").write_text("no scan")
    content = save(images / "cut.nii.gz", good).read_bytes()
    (images / "cut.nii.gz").write_bytes(content[:-200])
    flipped = bytearray(save(images / "flipped.nii.gz", good).read_bytes())
    flipped[len(flipped) // 2] ^= 4
    (images / "flipped.nii.gz").write_bytes(flipped)
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(good)] * 3), str(images / "cine.nii.gz"))
    for name, label in {
        "shape": np.zeros((5, 30, 25), np.uint8),
        "values": np.full((5, 30, 26), 77, np.uint8),
        "fraction": np.full((5, 30, 26), 0.5, np.float32),
    }.items():
        save(images / f"{name}.nii.gz", good)
        save(labels / f"{name}.nii.gz", label)
    save(images / "place.nii.gz", good)
    save(labels / "place.nii.gz", np.zeros((5, 30, 26), np.uint8), (1.0, 1.0, 4.0))
    return {
        "nan": "images/nan.nii.gz: 1 voxels are NaN",
        "constant": "images/constant.nrrd: all voxels are 1",
        "text": "images/text.nii.gz: not gzip-compressed",
        "cut": "images/cut.nii.gz: truncated or corrupt",
        "flipped": "images/flipped.nii.gz: truncated or corrupt",
        "cine": "images/cine.nii.gz: 4-D (3 volumes), but 1 wanted",
        "shape": "labels/shape.nii.gz: its size is 25 x 30 x 5",
        "values": "labels/values.nii.gz: unknown label values 77; known are 1, 3",
        "fraction": "labels/fraction.nii.gz: its label values are not whole numbers",
        "place": "labels/place.nii.gz: lies 4 mm apart from its image",
    }


def test_a_slip_among_the_labels_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A value that one label alone has is a class of its own, where nobody names the structures."""
    source = make_scans(tmp_path / "scans")
    path = source / "labels" / "scan1.nii.gz"
    label = sitk.ReadImage(str(path))
    label[0, 0, 0] = 9
    sitk.WriteImage(label, str(path))
    run(source, tmp_path / "store")
    assert "scan1 alone has: 9 (1 voxel); correct its label, if they are slips" in capsys.readouterr().err


def test_bad_cases_are_set_aside_each_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_scans(tmp_path / "scans")
    expected = break_files(source)
    store = run(source, tmp_path / "store", labels="1=a,3=b")
    assert [record.case for record in store.cases] == [f"scan{number}" for number in range(4)]
    assert {entry.case for entry in store.skipped} == set(expected)
    said = capsys.readouterr().err
    assert "10 skipped:" in said
    for entry in store.skipped:
        assert entry.status == "refused"
        assert entry.reason.startswith(expected[entry.case])
        assert entry.reason in said
    assert run(source, tmp_path / "store", labels="1=a,3=b").digest == store.digest
    with pytest.raises(DataError, match=r"truncated or corrupt|4-D"):
        run(source, tmp_path / "strict", labels="1=a,3=b", strict=True)


def test_a_case_that_was_mended_is_added(tmp_path: Path) -> None:
    source = make_scans(tmp_path / "scans")
    path = source / "images" / "scan2.nii.gz"
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    assert [entry.case for entry in run(source, tmp_path / "store").skipped] == ["scan2"]
    path.write_bytes(content)
    store = run(source, tmp_path / "store")
    assert not store.skipped
    assert tree(tmp_path / "store") == tree(run(source, tmp_path / "fresh").path)


def test_without_a_good_case_there_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    with pytest.raises(DataError, match="no image found"):
        run(tmp_path / "scans", tmp_path / "store")
    (tmp_path / "scans" / "a.nii.gz").write_text("x")
    with pytest.raises(DataError, match=r"none of the 1 cases can be used; the first: a\.nii\.gz: not gzip"):
        run(tmp_path / "scans", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_the_bytes_do_not_depend_on_workers_or_place(tmp_path: Path) -> None:
    source = make_scans(tmp_path / "scans", count=6)
    break_files(source)
    expected = tree(run(source, tmp_path / "one").path)
    assert tree(run(source, tmp_path / "two", workers=2).path) == expected
    shutil.copytree(source, tmp_path / "elsewhere ü" / "患者")
    assert tree(run(tmp_path / "elsewhere ü" / "患者", tmp_path / "out put" / "ß").path) == expected


def fork_run(source: Path, out: Path) -> int:
    """Prepare in a forked process; returns its number."""
    child = os.fork()
    if child == 0:
        try:
            run(source, out)
            os._exit(0)
        finally:
            os._exit(1)
    return child


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_kill_at_random_points(tmp_path: Path) -> None:
    """kill -9, again and again; in the end the bytes are those of a run that was never killed."""
    source = make_scans(tmp_path / "scans", count=16, shape=(12, 160, 160))
    begun = time.monotonic()
    expected = tree(run(source, tmp_path / "whole").path)
    took = time.monotonic() - begun
    random = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
    unfinished = 0
    for attempt in range(3):
        out = tmp_path / f"store{attempt}"
        for _ in range(4):
            child = fork_run(source, out)
            time.sleep(float(random.uniform(0, 0.5 * took)))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            if not (out / "store.json").exists():
                unfinished += 1
                with pytest.raises(DataError, match=r"unfinished|no store"):
                    Store.open(out)
        run(source, out)
        assert tree(out) == expected
    assert unfinished >= 3


@pytest.mark.slow
def test_kill_with_worker_processes(tmp_path: Path) -> None:
    source = make_scans(tmp_path / "scans", count=24, shape=(12, 200, 200))
    expected = tree(run(source, tmp_path / "whole").path)
    out = tmp_path / "store"
    random = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
    for _ in range(5):
        process = start(source, out, workers=2)
        while not list(out.glob("cases/.*")) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(float(random.uniform(0, 1.0)))
        process.send_signal(signal.SIGKILL)
        process.communicate()  # returns only when the workers, who have the same output, are gone too
    process = start(source, out, workers=2)
    assert process.wait() == 0
    process.communicate()
    assert tree(out) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_processes_prepare_one_store(tmp_path: Path) -> None:
    source = make_scans(tmp_path / "scans", count=8, shape=(12, 128, 128))
    out = tmp_path / "store"
    children = [fork_run(source, out) for _ in range(3)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert len(Store.open(out).cases) == 8
    assert tree(out) == tree(run(source, tmp_path / "alone").path)


@pytest.mark.parametrize("name", ["images.slices", "labels.slices", "case.json", "store.json", "plan.json"])
def test_a_rerun_mends_what_is_damaged_or_gone(tmp_path: Path, name: str) -> None:
    source = make_scans(tmp_path / "scans")
    out = run(source, tmp_path / "store").path
    expected = tree(out)
    file = next(path for path in sorted(out.rglob("*")) if path.name == name)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 2
    for damaged in (bytes(content), bytes(content[:40]), None):
        if damaged is None:
            file.unlink()
        else:
            file.write_bytes(damaged)
        run(source, out)
        assert tree(out) == expected
    for path in (out / "plan.json", out / "store.json"):
        path.write_text("{}")
    with pytest.raises(DataError, match="what they were made with is lost"):
        run(source, out)


def test_a_rerun_does_not_do_again_what_is_there(tmp_path: Path) -> None:
    source = make_scans(tmp_path / "scans")
    out = run(source, tmp_path / "store").path
    before = {path: path.stat().st_mtime_ns for path in (out / "cases").rglob("*.slices")}
    make_scans(source, count=5)
    store = run(source, out)
    assert len(store.cases) == 5
    after = {path: path.stat().st_mtime_ns for path in (out / "cases").rglob("*.slices")}
    assert {path: after[path] for path in before} == before
    assert len(after) == len(before) + 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"spacing": 2.0}, r"spacing: None there, 2\.0 now"),
        ({"size": 64}, r"size: None there, 64 now; size_fixed: False there, True now"),
        ({"labels": "1=liver,3=x"}, r"labels: \{'1': '1', '3': '3'\} there, \{'1': 'liver', '3': 'x'\} now"),
        ({"patient": "(s)"}, r"patient: None there, '\(s\)' now"),
    ],
)
def test_changed_options_are_refused_and_shown(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    source = make_scans(tmp_path / "scans", count=2)
    out = run(source, tmp_path / "store").path
    before = tree(out)
    for kept in (("plan.json", "store.json"), ("store.json",), ("plan.json",)):
        for name in {"plan.json", "store.json"} - set(kept):
            (out / name).unlink(missing_ok=True)
        with pytest.raises(UsageError, match=words) as caught:
            run(source, out, **options)
        assert caught.value.exit_code == 2
        for name in ("plan.json", "store.json"):
            (out / name).write_bytes(before[name])
    assert tree(out) == before


def test_other_sources_are_refused(tmp_path: Path) -> None:
    source = make_scans(tmp_path / "scans", count=3)
    out = run(source, tmp_path / "store").path
    before = tree(out)
    content = (source / "images" / "scan1.nii.gz").read_bytes()
    shutil.copy(source / "images" / "scan0.nii.gz", source / "images" / "scan1.nii.gz")
    with pytest.raises(UsageError, match=r"scan1\.nii\.gz: .* has this case, made of other files"):
        run(source, out)
    (source / "images" / "scan1.nii.gz").unlink()
    (source / "labels" / "scan1.nii.gz").unlink()
    with pytest.raises(UsageError, match="has the case scan1, which the source has not"):
        run(source, out)
    (source / "images" / "scan1.nii.gz").write_bytes(content)
    with pytest.raises(UsageError, match="made of other files"):  # its label is gone
        run(source, out)
    assert tree(out) == before


def test_another_format_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_scans(tmp_path / "scans", count=1)
    out = tmp_path / "store"
    monkeypatch.setattr("jcl.data.manifest.FORMAT", 99)
    run(source, out)
    monkeypatch.undo()
    for name in ("plan.json", "store.json"):
        with pytest.raises(DataError, match=rf"{name}: format version 99, this jcl reads 1"):
            run(source, out)
        (out / name).unlink()


def test_folders_that_are_no_stores_are_left_alone(tmp_path: Path) -> None:
    source = make_scans(tmp_path / "scans", count=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="is a folder with other things in it; choose another --out"):
        run(source, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
    with pytest.raises(UsageError, match="is a file"):
        run(source, tmp_path / "mine" / "thesis.tex")
    with pytest.raises(DataError, match="cannot be written"):
        run(source, tmp_path / "mine" / "thesis.tex" / "store")
    (tmp_path / "empty").mkdir()
    assert len(run(source, tmp_path / "empty").cases) == 1
    (tmp_path / "orphan" / "cases" / "x").mkdir(parents=True)
    write_sealed(tmp_path / "orphan" / "plan.json", {"recipe": {}})
    with pytest.raises(UsageError, match="made with other options"):
        run(source, tmp_path / "orphan")


def test_a_store_inside_its_source_is_not_taken_for_a_scan(tmp_path: Path) -> None:
    source = make_scans(tmp_path / "scans", count=2)
    expected = tree(run(source, source / "store").path)
    assert tree(run(source, source / "store").path) == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": 0}, "workers is 0"),
        ({"dataset": "none"}, "no data set is named 'none'"),
        ({"size": 0}, "size is 0"),
    ],
)
def test_wrong_settings(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        run(make_scans(tmp_path / "scans", count=1), tmp_path / "store", **options)
    assert not (tmp_path / "store").exists()


def test_a_source_that_may_only_be_read(tmp_path: Path) -> None:
    source = make_scans(tmp_path / "scans", count=2)
    before = tree(source)
    for path in [source, *source.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert len(run(source, tmp_path / "store").cases) == 2
    finally:
        for path in [source, *source.rglob("*")]:
            path.chmod(0o755)
    assert tree(source) == before


def mount(folder: Path, size: str, *, again: bool = False) -> bool:
    options = f"size={size}" + (",remount" if again else "")
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return bool(shutil.which("mount")) and subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_full_disk(tmp_path: Path, workers: int) -> None:
    """A small tmpfs where one may be mounted, else a limit on the size of files."""
    source = make_scans(tmp_path / "scans", count=5, shape=(12, 128, 128))
    expected = tree(run(source, tmp_path / "whole").path)
    disk = tmp_path / "disk"
    disk.mkdir()
    if mount(disk, "700k"):
        try:
            with pytest.raises(DataError, match=r"cannot be written \(No space left on device\); free some space"):
                run(source, disk / "store", workers=workers)
            assert not (disk / "store" / "store.json").exists()
            with pytest.raises(DataError, match=r"unfinished|no store"):
                Store.open(disk / "store")
            assert mount(disk, "50m", again=True)
            assert tree(run(source, disk / "store").path) == expected
        finally:
            subprocess.run(["umount", str(disk)], check=True)
        return
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000))\n" + RUN
    arguments = [sys.executable, "-c", code, str(source), str(disk / "store"), str(workers)]
    limited = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert limited.returncode == 3
    assert "cannot be written (File too large)" in limited.stdout
    assert not (disk / "store" / "store.json").exists()
    assert tree(run(source, disk / "store").path) == expected


@pytest.mark.slow
def test_ctrl_c_ends_it_and_a_rerun_goes_on(tmp_path: Path) -> None:
    source = make_scans(tmp_path / "scans", count=24, shape=(12, 200, 200))
    out = tmp_path / "store"
    process = start(source, out, workers=2)
    while not list(out.glob("cases/scan*")) and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in said
    assert not (out / "store.json").exists()
    assert 1 <= len(list(out.glob("cases/scan*"))) < 24
    run(source, out)
    assert tree(out) == tree(run(source, tmp_path / "whole").path)


@pytest.mark.slow
def test_a_script_without_its_guard_is_told(tmp_path: Path) -> None:
    """The spawn start method runs the script again in each worker."""
    source = make_scans(tmp_path / "scans", count=2)
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\nfrom jcl.config import PrepareConfig\nfrom jcl.stages.prepare import prepare\n"
        f"prepare(PrepareConfig(source=Path({str(source)!r}), out=Path({str(tmp_path / 'store')!r}), workers=2))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=120)
    assert 'needs `if __name__ == "__main__":` around its calls' in done.stderr
    assert "worker processes cannot start" in done.stderr
    assert not (tmp_path / "store" / "store.json").exists()


@pytest.mark.parametrize("name", ["plan.json", "store.json"])
def test_what_a_killed_run_had_begun_to_write_is_cleared_away(tmp_path: Path, name: str) -> None:
    source = make_scans(tmp_path / "scans", count=2)
    run(source, tmp_path / "store")
    leftover = tmp_path / "store" / f".{name}.4711"
    leftover.write_text("{")
    run(source, tmp_path / "store")
    assert not leftover.exists()


def test_progress_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_scans(tmp_path / "scans", count=3)
    told: list[tuple[int, int, str]] = []
    prepare(
        PrepareConfig(source=source, out=tmp_path / "a", workers=1),
        progress=lambda done, total, case: told.append((done, total, case)),
    )
    assert told == [(1, 3, "scan0"), (2, 3, "scan1"), (3, 3, "scan2")]
    for name in ("FIRST_SECONDS", "PLAIN_SECONDS"):
        monkeypatch.setattr(f"jcl.parallel.progress.{name}", 0.0)
    run(source, tmp_path / "b")
    assert re.findall(r"prepare: (\d) of 3 cases", capsys.readouterr().err) == ["1", "2", "3"]


def test_large_cases_are_handed_out_first_to_several_processes(tmp_path: Path) -> None:
    jobs = []
    for name, size in [("a", 10), ("b", 30), ("c", 20)]:
        (tmp_path / f"{name}.nii").write_bytes(bytes(size))
        files = CaseSource(case=name, patient=name, images=(tmp_path / f"{name}.nii",), label=None)
        jobs.append(Job(tmp_path, tmp_path / "out", files, {}))
    assert [job.files.case for job in stage._in_turn(jobs, InProcessPool())] == ["a", "b", "c"]
    assert [job.files.case for job in stage._in_turn(jobs, ProcessPool([int, int]))] == ["b", "c", "a"]
