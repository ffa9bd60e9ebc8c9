"""Verify: every way to spoil a store or a run is told, with its file; a whole one is told to be whole."""

import csv
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from jcl.checks.findings import ERROR, NOTE, Finding
from jcl.cli import main as cli
from jcl.config import PrepareConfig, VerifyConfig
from jcl.data.manifest import read_sealed, write_sealed
from jcl.data.splits import Split, write_split
from jcl.data.store import Store
from jcl.data.store_writing import write_case, write_manifest
from jcl.errors import DataError, UsageError
from jcl.files import read_json, write_json
from jcl.stages.prepare import prepare
from jcl.stages.verify import verify
from jcl.training import checkpoint
from jcl.training.checkpoint import Checkpointer
from jcl.training.optim import adam
from jcl.training.run_folder import start_run
from support.thresholds import threshold_network, write_run


@pytest.fixture
def store(store_path: Path, tmp_path: Path) -> Path:
    """A store of six patients that may be spoilt."""
    return Path(shutil.copytree(store_path, tmp_path / "store"))


def findings(path: Path, **settings) -> list[Finding]:
    return list(verify(VerifyConfig(path=path, **settings)).findings)


def the_error(path: Path, kind: str, **settings) -> Finding:
    """The only finding, which has to be an error."""
    (found,) = findings(path, **settings)
    assert (found.level, found.kind) == (ERROR, kind), found
    return found


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def make_scans(folder: Path, volumes: dict[str, np.ndarray], labels: dict[str, np.ndarray] | None = None) -> Path:
    for name, arrays in (("images", volumes), ("labels", labels or {})):
        (folder / name).mkdir(parents=True)
        for case, array in arrays.items():
            image = sitk.GetImageFromArray(array)
            image.SetSpacing((0.5, 0.5, 3.0))
            sitk.WriteImage(image, str(folder / name / f"{case}.nii.gz"))
    return folder


def make_store(
    folder: Path, volumes: dict[str, np.ndarray], given: dict[str, np.ndarray] | None = None, **settings
) -> Path:
    scans = make_scans(folder / "scans", volumes, given)
    return prepare(PrepareConfig(source=scans, out=folder / "store", workers=1, **settings)).path


def blobs(number: int, shape: tuple[int, int, int] = (6, 30, 26)) -> np.ndarray:
    """Smooth noise, another one for each number."""
    random = np.random.default_rng(number)
    return np.kron(random.integers(0, 1000, [side // 2 for side in shape]), np.ones((2, 2, 2))).astype(np.int16)


# What is damaged


def test_a_whole_store_has_no_findings(store: Path) -> None:
    assert findings(store) == []


@pytest.mark.parametrize("file", ["images.slices", "labels.slices"])
def test_each_flipped_byte_is_told(store: Path, file: str) -> None:
    path = store / "cases" / "p2" / file
    size = path.stat().st_size
    for at in (0, 9, 40, size // 2, size - 1):
        whole = path.read_bytes()
        flip(path, at)
        found = the_error(store, "damaged")
        assert str(path) in found.text
        assert "jcl prepare" in found.text
        assert found.cases == ("p2",)
        path.write_bytes(whole)


def test_several_damaged_files_are_all_told(store: Path) -> None:
    for case, file in (("p0", "images.slices"), ("p0", "labels.slices"), ("p5", "case.json")):
        path = store / "cases" / case / file
        path.write_bytes(path.read_bytes()[:-7])
    told = findings(store)
    assert [each.level for each in told] == [ERROR] * 3
    for each, part in zip(told, ("p5/case.json", "p0/images.slices", "p0/labels.slices"), strict=True):
        assert part in each.text


@pytest.mark.parametrize("file", ["images.slices", "labels.slices", "case.json"])
def test_a_missing_file_is_told(store: Path, file: str) -> None:
    (store / "cases" / "p1" / file).unlink()
    assert f"p1/{file}" in the_error(store, "damaged").text


def test_a_missing_case_is_told_once(store: Path) -> None:
    shutil.rmtree(store / "cases" / "p3")
    assert str(store / "cases" / "p3") in the_error(store, "missing").text


def test_strays_are_told(store: Path) -> None:
    shutil.copytree(store / "cases" / "p3", store / "cases" / "stranger")
    assert str(store / "cases" / "stranger") in the_error(store, "stray").text
    shutil.rmtree(store / "cases" / "stranger")
    (store / "cases" / "p3" / "more.slices").touch()
    assert "p3/more.slices" in the_error(store, "stray").text
    (store / "cases" / "p3" / "more.slices").unlink()
    (store / "cases" / ".0123456789abcdef.77").mkdir()
    (found,) = findings(store)
    assert (found.level, found.kind) == (NOTE, "stray")


def test_what_prepare_calls_a_mend_is_one(store: Path, store_path: Path) -> None:
    """The messages say to run prepare again: so that has to help."""
    flip(store / "cases" / "p2" / "images.slices", -1)
    (store / "cases" / "p4" / "case.json").unlink()
    shutil.rmtree(store / "cases" / "p3")
    (store / "plan.json").write_text("{")
    assert len(findings(store)) == 4
    prepare(PrepareConfig(source=store_path.parent / "scans", out=store, labels="1=ball", workers=1))
    assert findings(store) == []


def test_a_record_that_is_not_the_manifests(store: Path) -> None:
    path = store / "cases" / "p1" / "case.json"
    write_sealed(path, {**unsealed(path), "spacing": [4.0, 1.0, 1.1]})
    assert "is not what the store's manifest says" in the_error(store, "damaged").text


@pytest.mark.parametrize("name", ["store.json", "plan.json"])
def test_an_unfinished_store_or_a_damaged_manifest(store: Path, name: str) -> None:
    flip(store / "store.json", 50)
    with pytest.raises(DataError, match=r"store\.json: damaged"):
        findings(store)
    (store / "store.json").unlink()
    with pytest.raises(DataError, match="unfinished; run the same `jcl prepare` command again"):
        findings(store)


def unsealed(path: Path) -> dict:
    return {key: value for key, value in read_sealed(path).items() if key not in ("format", "digest")}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"spacing": [4.0, 0.0, 1.0]}, "its spacing is (4.0, 0.0, 1.0) mm"),
        ({"spacing": [float("nan"), 1.0, 1.0]}, "its spacing is (nan, 1.0, 1.0) mm"),
        ({"shape": [64, 32]}, "its slices of 64 x 32 are larger than the store's"),
        ({"scale": [1.0, 1.0]}, "has 2 channels, the store 1"),
    ],
)
def test_impossible_geometry(store: Path, tmp_path: Path, change: dict, said: str) -> None:
    """A manifest that is whole, but says what cannot be; its case is not even drawn."""
    manifest = unsealed(store / "store.json")
    manifest["cases"][1].update(change)
    write_sealed(store / "store.json", manifest)
    told = [each for each in findings(store) if each.kind == "geometry"]
    assert [(each.level, each.cases) for each in told] == [(ERROR, ("p1",))]
    assert said in told[0].text
    assert cli.main(["verify", str(store), "--out", str(tmp_path / "out")]) == 3
    assert (tmp_path / "out" / "contact_sheet.png").is_file()


def test_labels_of_another_shape_than_the_images(store: Path) -> None:
    """Files that are whole, but exchanged for those of a store with other slices."""
    other = make_store(
        store.parent / "other", {"p1": blobs(0)}, {"p1": np.ones((6, 30, 26), np.uint8)}, labels="1=ball"
    )
    manifest, given = unsealed(store / "store.json"), unsealed(other / "store.json")
    manifest["cases"][1]["digests"]["labels.slices"] = given["cases"][0]["digests"]["labels.slices"]
    write_sealed(store / "store.json", manifest)
    shutil.copy(other / "cases" / "p1" / "labels.slices", store / "cases" / "p1")
    told = [each.text for each in findings(store) if "labels.slices" in each.text]
    assert len(told) == 1
    assert "its shape is not that of the manifest" in told[0]


def test_outliers_are_notes(tmp_path: Path) -> None:
    volumes = {f"p{number}": blobs(number) for number in range(4)} | {"long": blobs(4, (14, 30, 26))}
    scans = make_scans(tmp_path / "scans", volumes)
    thick = sitk.ReadImage(str(scans / "images" / "p2.nii.gz"))
    thick.SetSpacing((0.5, 0.5, 9.0))
    sitk.WriteImage(thick, str(scans / "images" / "p2.nii.gz"))
    fine = sitk.ReadImage(str(scans / "images" / "p3.nii.gz"))
    fine.SetSpacing((0.2, 0.5, 3.0))
    sitk.WriteImage(fine, str(scans / "images" / "p3.nii.gz"))
    prepare(PrepareConfig(source=scans, out=tmp_path / "store", workers=1))
    told = {(each.level, each.cases): each.text for each in findings(tmp_path / "store")}
    assert set(told) == {(NOTE, ("p2",)), (NOTE, ("p3",)), (NOTE, ("long",))}
    assert "through-plane spacing far from the median of 3 mm: p2 (9)" in told[NOTE, ("p2",)]
    assert "column spacing far from the median of 0.5 mm: p3 (0.2)" in told[NOTE, ("p3",)]
    assert "number of slices far from the median of 6: long (14)" in told[NOTE, ("long",)]


# What is in it


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """A store with labels of all kinds, and the labels."""
    random = np.random.default_rng(0)
    labels = {f"p{n}": random.choice([0, 0, 0, 3, 7], (6, 30, 26)).astype(np.uint8) for n in range(4)}
    labels["p1"][labels["p1"] == 7] = 0
    labels["p0"][2:] = 0
    labels["p0"][4, 5, 5] = 7  # the only voxel of its slice
    labels["empty"] = np.zeros((6, 30, 26), np.uint8)
    volumes = {case: blobs(n) for n, case in enumerate([*labels, "bare"])}
    base = tmp_path_factory.mktemp("counted")
    return make_store(base, volumes, labels, labels="3=liver,7=spleen,9=never"), labels


def test_census_is_that_of_counting_by_hand(counted, tmp_path: Path) -> None:
    path, labels = counted
    check = verify(VerifyConfig(path=path, out=tmp_path))
    lines = (tmp_path / "cases.csv").read_text(encoding="utf-8").splitlines()
    rows = {row["case"]: row for row in csv.DictReader(lines)}
    assert set(rows) == {*labels, "bare"}
    for each in check.census:
        name = each.record.case
        row = rows[name]
        source = sitk.GetArrayFromImage(sitk.ReadImage(str(path.parent / "scans" / "images" / f"{name}.nii.gz")))
        low, high = np.percentile(source, (1, 99))
        scaled = (source.clip(low, high) - low) / (high - low)
        expected = (scaled.mean(), scaled.std(), scaled.min(), scaled.max(), (scaled == 0).mean())
        found = [float(row[key]) for key in ("mean", "deviation", "lowest", "highest", "at_lowest")]
        assert found == pytest.approx(expected, abs=3e-4)
        assert (row["slices"], row["rows"], row["columns"]) == ("6", "30", "26")
        assert (row["slice_spacing"], row["row_spacing"], row["column_spacing"]) == ("3.0", "0.5", "0.5")
        if name == "bare":
            assert row["labelled"] == "no"
            assert row["liver voxels"] == ""
            continue
        for value, structure in ((3, "liver"), (7, "spleen"), (9, "never")):
            voxels = sum(int(v == value) for v in labels[name].ravel().tolist())
            slices = sum(value in plane.ravel().tolist() for plane in labels[name])
            assert int(row[f"{structure} voxels"]) == voxels
            assert int(row[f"{structure} slices"]) == slices
            assert float(row[f"{structure} ml"]) == pytest.approx(voxels * 0.5 * 0.5 * 3 / 1000)
        area = [np.count_nonzero(plane) for plane in labels[name]]
        assert each.shown == (int(np.argmax(area)) if any(area) else 3)


def test_what_the_labels_lack_is_noted(counted) -> None:
    told = {each.text.split(": ", 1)[1]: each for each in findings(counted[0])}
    assert all(each.level == NOTE for each in told.values())
    assert told["cases without labels, so used for pre-training only: bare"].cases == ("bare",)
    assert told["cases with labels that are empty; is that meant?: empty"].cases == ("empty",)
    assert told["cases that lack the class spleen: p1"].cases == ("p1",)
    assert "no case has the class never; check the label values it was given" in told
    assert len(told) == 4


def test_counts_that_are_not_the_manifests(store: Path) -> None:
    manifest = unsealed(store / "store.json")
    manifest["cases"][2]["voxels"][0] += 1
    write_sealed(store / "store.json", manifest)
    path = store / "cases" / "p2" / "case.json"
    write_sealed(path, manifest["cases"][2])
    assert str(store / "cases" / "p2") in the_error(store, "labels").text


def test_a_label_that_is_no_class(tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    image = np.random.default_rng(0).random((1, 2, 16, 16), np.float32)
    labels = np.zeros((2, 16, 16), np.uint8)
    labels[0, 0, :3] = 2
    record = write_case(
        tmp_path, image, labels, case="a", patient="a", spacing=(1.0, 1.0, 1.0), source={}, classes=1
    )  # fmt: skip
    recipe = {"channels": 1, "classes": ["one"]}
    write_manifest(tmp_path, {**recipe, "padded": [16, 16]}, [record], [])
    write_sealed(tmp_path / "plan.json", {"recipe": recipe})
    assert "3 voxels have a label that is not a class" in "".join(each.text for each in findings(tmp_path))


def test_a_case_set_aside_is_noted(tmp_path: Path) -> None:
    scans = make_scans(tmp_path / "scans", {f"p{number}": blobs(number) for number in range(3)})
    whole = (scans / "images" / "p1.nii.gz").read_bytes()
    (scans / "images" / "p1.nii.gz").write_bytes(whole[:-40])
    prepare(PrepareConfig(source=scans, out=tmp_path / "store", workers=1))
    (found,) = findings(tmp_path / "store")
    assert (found.level, found.kind, found.cases) == (NOTE, "refused", ("p1",))
    assert "p1.nii.gz" in found.text


# The same image twice


def test_the_same_image_under_two_patients(tmp_path: Path) -> None:
    volumes = {f"p{number}": blobs(number) for number in range(5)}
    path = make_store(tmp_path, {**volumes, "copy": volumes["p3"]})
    found = the_error(path, "duplicate")
    assert sorted(found.cases) == ["copy", "p3"]
    assert "under 2 patients" in found.text


def test_the_same_image_twice_under_one_patient_is_a_note(tmp_path: Path) -> None:
    volumes = {"a_1": blobs(1), "a_2": blobs(1), "b_1": blobs(2)}
    (found,) = findings(make_store(tmp_path, volumes, patient=r"(\w)_.*"))
    assert (found.level, found.kind, found.cases) == (NOTE, "duplicate", ("a_1", "a_2"))


@pytest.mark.parametrize(
    "again",
    [
        lambda image: (0.13 * image + 40).astype(np.float32),
        lambda image: (255.0 * image / image.max()).astype(np.uint8),
        lambda image: image[::-1, :, ::-1] * 2.5,
        lambda image: np.repeat(np.repeat(image, 2, axis=1), 2, axis=2),
        lambda image: image + np.random.default_rng(9).normal(0, 8, image.shape).astype(np.int16),
    ],
    ids=["scaled", "8 bits", "flipped", "finer grid", "noise"],
)
def test_the_same_image_saved_anew_is_noted(tmp_path: Path, again) -> None:
    volumes = {f"p{number}": blobs(number) for number in range(5)}
    path = make_store(tmp_path, {**volumes, "again": np.ascontiguousarray(again(volumes["p3"]))})
    told = [each for each in findings(path) if each.kind in ("similar", "duplicate")]
    assert len(told) == 1
    assert sorted(told[0].cases) == ["again", "p3"]
    assert str(path) in told[0].text


def test_different_patients_are_not_called_alike(tmp_path: Path) -> None:
    """Anatomy is the same in all, noise is not: a ball of one size at one place."""
    row, column = np.mgrid[:30, :26]
    ball = 500.0 * (np.hypot(row - 14, column - 12) < 8)
    volumes = {f"p{n}": (ball + blobs(n) / 2).astype(np.int16) for n in range(6)}
    assert findings(make_store(tmp_path, volumes)) == []


# The source


def test_the_source_is_compared(store: Path, store_path: Path, tmp_path: Path) -> None:
    scans = Path(shutil.copytree(store_path.parent / "scans", tmp_path / "scans"))
    assert findings(store, source=scans) == []
    flip(scans / "images" / "p4.nii.gz", -1)
    found = the_error(store, "source", source=scans)
    assert str(scans / "images" / "p4.nii.gz") in found.text
    assert "has changed" in found.text
    (scans / "labels" / "p0.nii.gz").unlink()
    assert [str(scans / "labels" / "p0.nii.gz") in each.text for each in findings(store, source=scans)] == [True, False]


# Runs


@pytest.fixture
def run(store: Path, tmp_path: Path) -> Path:
    """A finished fine-tuned run with two checkpoints."""
    opened, network = Store.open(store), threshold_network(0.5)
    split = Split(("p0", "p1"), ("p2",), ("p3", "p5"))
    folder = write_run(
        tmp_path / "run", network, opened.preparation, store=str(store), digest=opened.digest, split=split
    )
    optimizer = adam(network.parameters())
    checkpointer = Checkpointer(folder, network, optimizer, torch.Generator(), minutes=60.0)
    for step in (1, 2):
        checkpointer.save(step)
    return folder


def test_a_whole_run_has_no_findings(run: Path) -> None:
    check = verify(VerifyConfig(path=run))
    assert check.findings == []
    assert check.facts["step-000000002"] == "whole"
    assert "2 train, 1 validation, 2 test" in check.facts["split.json"]


@pytest.mark.parametrize(
    "file",
    [
        "model.safetensors",
        "checkpoints/step-000000001/state.safetensors",
        "checkpoints/step-000000002/model.safetensors",
    ],
)
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_damaged_weights_are_told(run: Path, file: str, harm: str) -> None:
    path = run / file
    if harm == "flip":
        flip(path, -1)
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.unlink()
    found = the_error(run, "damaged")
    assert str(path) in found.text
    assert ";" in found.text  # the mend


@pytest.mark.parametrize("content", ["{", "[]", '{"sha256": 3}', "{}"])
def test_damaged_small_files_are_told(run: Path, content: str) -> None:
    (run / "model.json").write_text(content)
    (run / "checkpoints" / "step-000000002" / "state.json").write_text(content)
    assert [each.kind for each in findings(run)] == ["damaged"] * 2
    (run / "run.json").write_text(content)
    with pytest.raises(DataError, match=r"run\.json"):
        findings(run)


def test_a_run_that_is_not_finished(run: Path) -> None:
    (run / "model.json").unlink()
    (found,) = findings(run)
    assert (found.level, found.kind) == (NOTE, "unfinished")
    assert "--resume" in found.text


def test_weights_that_are_no_numbers(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As versions before this one wrote them."""
    network, opened = threshold_network(0.5), Store.open(store)
    network.head.bias.data[0] = float("nan")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_not_finite", lambda tensors: None)
        run = write_run(tmp_path / "nan", network, opened.preparation, store=str(store), digest=opened.digest)
    write_split(run / "split.json", Split(("p0",), (), ("p1",)))
    assert "head.bias is NaN or infinite" in the_error(run, "damaged").text


def test_a_store_that_has_changed_or_gone(run: Path, store: Path) -> None:
    write_sealed(store / "store.json", {**unsealed(store / "store.json"), "refused": [{**REFUSED}]})
    assert str(store) in the_error(run, "store").text
    shutil.rmtree(store)
    (found,) = findings(run)
    assert (found.level, found.kind) == (NOTE, "store")


REFUSED = {"case": "x", "patient": "x", "reason": "x.nii: cut", "status": "refused"}


def test_a_split_that_leaks(run: Path) -> None:
    (run / "split.json").write_text(json.dumps({"train": ["p0", "p3"], "test": ["p3"]}))
    found = the_error(run, "split")
    assert "patient p3 is in both train and test" in found.text
    write_split(run / "split.json", Split(("p0", "nobody"), (), ("p3",)))
    assert "nobody" in the_error(run, "split").text
    (run / "split.json").unlink()
    assert str(run / "split.json") in the_error(run, "missing").text


@pytest.mark.parametrize(("train", "seen"), [(None, ["p3", "p5"]), (["p0", "p3"], ["p3"]), (["p0", "p1"], [])])
def test_a_pretraining_that_saw_the_test_patients(run: Path, store: Path, train, seen: list[str]) -> None:
    """Allowed, but to be known: images of test patients, without labels."""
    pre, digest = run.parent / "pre", Store.open(store).digest
    start_run(pre, {"kind": "pretrain", "stores": [{"path": str(store), "digest": digest}]})
    if train is not None:
        write_split(pre / "split.json", Split(tuple(train), (), ("p5",)))
    assert verify(VerifyConfig(path=pre)).facts[f"store {store}"].startswith("as it was")
    info = read_json(run / "run.json")
    write_json(run / "run.json", {**info, "init": {"run": str(pre), "report": ""}})
    told = [each for each in findings(run) if each.kind == "leak"]
    assert bool(told) == bool(seen)
    if seen:
        assert (told[0].level, told[0].text.count(", ".join(seen))) == (NOTE, 1)


# The command


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_exit_codes_and_what_is_written(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    before, out = tree(store), tmp_path / "new" / "out"
    assert cli.main(["verify", str(store)]) == 0
    said = capsys.readouterr().out
    assert "6 cases of 6 patients, 36 slices of 32 x 32 pixels" in said
    assert "ball" in said
    assert "nothing to remark" in said
    assert not out.exists()

    flip(store / "cases" / "p2" / "images.slices", -1)
    assert cli.main(["verify", str(store), "--out", str(out)]) == 3
    caught = capsys.readouterr()
    path = store / "cases" / "p2" / "images.slices"
    (line,) = [line for line in caught.out.splitlines() if line.startswith("error: ")]
    assert str(path) in line
    assert caught.err == f"jcl: error: {store}: 1 error, named above\n"
    assert sorted(each.name for each in out.iterdir()) == ["cases.csv", "contact_sheet.png", "findings.json"]
    kept = json.loads((out / "findings.json").read_text())
    assert (kept["errors"], kept["cases"], kept["findings"][0]["cases"]) == (1, 6, ["p2"])
    flip(path, -1)
    assert tree(store) == before


def test_a_run_on_the_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["verify", str(run), "--out", str(tmp_path / "out")]) == 0
    assert "whole" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["findings.json"]
    flip(run / "model.safetensors", -1)
    assert cli.main(["verify", str(run)]) == 3
    assert f"error: {run / 'model.safetensors'}: damaged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere"], 3, "nowhere: no folder"),
        (["."], 3, ".: neither a store"),
        (["store", "--out", "store/check"], 2, "--out store/check: is in what is verified"),
        (["store", "--source", "nowhere"], 2, "--source nowhere: no folder"),
        (["store", "--out", "file"], 3, "file: cannot be written"),
    ],
)
def test_wrong_use(
    arguments: list[str], code: int, said: str, store: Path, monkeypatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(store.parent)
    (store.parent / "file").touch()
    assert cli.main(["verify", *arguments]) == code
    assert said in capsys.readouterr().err


def test_source_of_a_run_is_wrong_use(run: Path) -> None:
    with pytest.raises(UsageError, match="--source is for stores"):
        findings(run, source=run)


def test_a_read_only_store(store_path: Path) -> None:
    """Nothing is written; root, who may write everywhere, becomes another user for it."""
    with tempfile.TemporaryDirectory() as name:  # those of pytest are closed to other users
        store = Path(shutil.copytree(store_path, Path(name) / "store"))
        Path(name).chmod(0o755)
        for path in [*store.rglob("*"), store]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        code = (
            "import os, sys\nfrom jcl.cli import main as cli\n"
            "cli.main(['verify', sys.argv[1]])\n"  # imports all there is to import
            "if os.geteuid() == 0: os.setegid(65534); os.seteuid(65534)\n"
            "try: open(sys.argv[1] + '/x', 'w')\nexcept OSError: sys.exit(cli.main(['verify', sys.argv[1]]))\n"
            "sys.exit('it can be written')"
        )
        done = subprocess.run([sys.executable, "-c", code, str(store)], capture_output=True, text=True, timeout=120)
        for path in [store, *store.rglob("*")]:
            path.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("nothing to remark") == 2


@pytest.mark.slow
def test_memory_does_not_grow_with_the_store(tmp_path: Path) -> None:
    """20 times as many cases, 110 MB more of pixels: a thumbnail of 8 KiB more for each."""

    def peak(cases: int) -> int:
        path = tmp_path / str(cases)
        (path / "cases").mkdir(parents=True)
        records = []
        for number in range(cases):
            image = np.random.default_rng(number).random((1, 8, 192, 192), np.float32)
            labels = (image[0] > 0.9).astype(np.uint8)
            records.append(
                write_case(path, image, labels, case=f"c{number}", patient=f"c{number}",
                           spacing=(1.0, 1.0, 1.0), source={}, classes=1)
            )  # fmt: skip
        recipe = {"channels": 1, "classes": ["one"]}
        write_manifest(path, {**recipe, "padded": [192, 192]}, records, [])
        write_sealed(path / "plan.json", {"recipe": recipe})
        code = (
            "import resource, sys; from jcl.cli import main as cli; code = cli.main(sys.argv[1:]);"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(code)"
        )
        arguments = [sys.executable, "-c", code, "verify", str(path)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        shutil.rmtree(path)
        return int(done.stderr.split()[-1])

    assert peak(100) - peak(5) < 10_000  # KiB; 3 MB where this was written
