"""Stores and models that somebody else made: names that lead elsewhere, and networks of any size."""

import json
from pathlib import Path
from typing import Any

import pytest

import jcl
from jcl.cli.main import main
from jcl.data.manifest import read_sealed, write_sealed
from jcl.data.store import Store
from jcl.data.store_writing import read_case
from jcl.errors import DataError
from support.scans import write_volumes
from support.thresholds import make_recipe_of, threshold_network, write_run

ELSEWHERE = ["../../victim", "/victim", "..", ".", "p1/../../../victim", ".hidden", ""]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Of two patients, beside a folder that no command is to touch."""
    write_volumes(tmp_path / "scans", patients=2, labelled=2, slices=2, size=24)
    assert main(command(tmp_path)) == 0
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "kept").touch()
    return tmp_path / "store"


def command(folder: Path) -> list[str]:
    return ["prepare", str(folder / "scans"), "--labels", "1=ball", "--workers", "1", "--out", str(folder / "store")]


def rewrite(path: Path, change: Any) -> None:
    """With a digest that fits, as one who makes a store can."""
    content = read_sealed(path)
    del content["digest"], content["format"]
    change(content)
    write_sealed(path, content)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_case_that_is_named_by_a_path(store: Path, capsys: pytest.CaptureFixture[str], name: str):
    """Nothing else is read or removed: the case is prepared again."""
    whole = (store / "store.json").read_bytes()
    rewrite(store / "store.json", lambda content: content["cases"][0].update(case=name))
    with pytest.raises(DataError, match=r"store\.json: .*no name of a case"):
        Store.open(store)
    assert main(["verify", str(store)]) == 3
    rewrite(store / "cases" / "p0" / "case.json", lambda content: content.update(case=name))
    assert read_case(store / "cases" / "p0") is None
    assert main(command(store.parent)) == 0
    assert (store / "store.json").read_bytes() == whole
    assert (store.parent / "victim" / "kept").exists()
    assert "Traceback" not in "".join(capsys.readouterr())


def test_a_case_with_the_name_of_another_or_files_elsewhere(store: Path):
    rewrite(store / "cases" / "p0" / "case.json", lambda content: content.update(case="p1"))
    assert read_case(store / "cases" / "p0") is None
    rewrite(store / "cases" / "p1" / "case.json", lambda content: content["digests"].update({"../../../x": "0" * 64}))
    assert read_case(store / "cases" / "p1") is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 3}, "encoder.blocks.0.0.weight is (2, 1, 3, 3) in these, (3, 1, 3, 3) in the network"),
        ({"classes": 5}, "5, by its recipe 2"),
        ({"in_channels": 10**9}, "1000000000, by its recipe 1"),
        ({"width": 10**6}, "not that of the weights"),
        ({"width": 10**18}, "larger than any can be"),
        ({"name": "attention_unet"}, "not that of the weights"),
    ],
)
def test_a_network_that_is_not_that_of_its_weights(tmp_path: Path, changes: dict[str, Any], said: str):
    """Whatever its size, no memory is taken for it."""
    run = write_run(tmp_path / "run", threshold_network(0.5), make_recipe_of({1: "ball"}))
    content = json.loads((run / "run.json").read_text())
    del content["seal"]
    content["backbone"].update(changes)
    (run / "run.json").write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        jcl.load(run)
    assert str(caught.value).startswith(f"{run / 'run.json'}: ")
    assert "its network is" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"spacing": 0}, "recipe: spacing is 0.0, in mm, above 0"),
        ({"spacing": "wide"}, "recipe: spacing: 'wide' is not a number"),
        ({"padded": [10**6, 10**6]}, "slices of 1000000 x 1000000 pixels need"),
        ({"padded": [16]}, "recipe: padded: [16] is not a list of 2 ints"),
        ({"padded": [16, 0]}, "recipe: padded is (16, 0), at least 1 pixel a side"),
        ({"window": [1.0, 0.0]}, "recipe: window is (1.0, 0.0), two values, the lower one first"),
        ({"clip": [99.0, 1.0]}, "recipe: clip is (99.0, 1.0), two percentiles, the lower one first"),
        ({"normalisation": "none"}, "recipe: normalisation: 'none' is not one of minmax, zscore"),
        ({"channels": 2}, "in_channels of its network is 1, by its recipe 2"),
        ({"channels": 0}, "recipe: channels is 0, at least 1"),
        ({"context": 1}, "in_channels of its network is 1, by its recipe 3"),
        ({"context": -1}, "recipe: context is -1, 0 to 32 is needed"),
        ({"context": 10**9}, "recipe: context is 1000000000, 0 to 32 is needed"),
        ({"context": "1"}, "recipe: context: '1' is not an int"),
        ({"classes": ["ball", "cube"], "class_values": [1, 2]}, "classes of its network is 2, by its recipe 3"),
        ({"class_values": []}, "recipe: class_values is (), a whole number for each of the classes"),
        ({"class_values": [10**400]}, "a whole number for each of the classes"),
        ({"fit": True}, "recipe: size is None, at least 1"),
        (None, "it does not say how scans are prepared (`recipe`)"),
    ],
)
def test_a_preparation_that_cannot_be_meant(tmp_path: Path, changes: dict[str, Any] | None, said: str):
    run = write_run(tmp_path / "run", threshold_network(0.5), make_recipe_of({1: "ball"}))
    content = json.loads((run / "run.json").read_text())
    del content["seal"]
    content["recipe"] = None if changes is None else {**content["recipe"], **changes}
    (run / "run.json").write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        jcl.load(run)
    assert str(caught.value).startswith(f"{run / 'run.json'}: ")
    assert said in str(caught.value)


def test_a_preparation_that_cannot_be_meant_in_a_folder_for_the_hub(tmp_path: Path):
    run = write_run(tmp_path / "run", threshold_network(0.5), make_recipe_of({1: "ball"}))
    assert main(["export", str(run), "--to", "hub", "--out", str(tmp_path / "hub")]) == 0
    path = tmp_path / "hub" / "config.json"
    content = json.loads(path.read_text())
    content.pop("seal", None)
    content["recipe"]["padded"] = [10**6, 10**6]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"config\.json: its slices of 1000000 x 1000000 pixels need"):
        jcl.load(tmp_path / "hub")


def test_a_spacing_that_would_fill_the_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Refused for the scan, before any memory is taken; in preparing and in predicting."""
    monkeypatch.setenv("JCL_MEMORY_GB", "1")
    write_volumes(tmp_path / "scans", patients=1, labelled=1, slices=2, size=24)
    out = str(tmp_path / "out")
    assert main(["prepare", str(tmp_path / "scans"), "--labels", "1=ball", "--spacing", "0.0001", "--out", out]) == 3
    assert "p0.nii.gz: 2 of its slices, resampled to" in capsys.readouterr().err
    run = write_run(tmp_path / "run", threshold_network(0.5), make_recipe_of({1: "ball"}, spacing=1e-4))
    assert main(["predict", str(run), str(tmp_path / "scans" / "images"), "--out", str(tmp_path / "found")]) == 3
    said = capsys.readouterr().err
    assert "p0.nii.gz: 2 of" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("width", "said"),
    [
        (10**18, "larger than any can be"),
        (10**6, "values, and its weights"),
        (3, "tensors differ"),
        (0, "tensors differ"),
    ],
)
def test_an_initial_run_whose_network_is_not_that_of_its_weights(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], width: int, said: str
):
    """Before memory is taken for a network of whatever size."""
    small = ["--width", "2", "--method.projection", "8", "--batch-size", "2", "--steps", "1", "--workers", "1"]
    assert main(["pretrain", str(store), "--out", str(tmp_path / "pre"), *small]) == 0
    path = tmp_path / "pre" / "run.json"
    content = json.loads(path.read_text())
    del content["seal"]
    content["backbone"]["width"] = width
    path.write_text(json.dumps(content))
    out = ["--init", str(tmp_path / "pre"), "--out", str(tmp_path / "fine"), "--fold", "none", "--steps", "1"]
    assert main(["finetune", str(store), *out]) == 3
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told
