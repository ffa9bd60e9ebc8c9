"""Bits and values of the JSON files of a run are changed: each change is named, or is none of what is used."""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jcl.cli import main as cli
from jcl.config import FinetuneConfig
from jcl.data.splits import read_split
from jcl.errors import DataError
from jcl.export.card import scores_of
from jcl.export.hub import write_hub
from jcl.files import read_json, write_json
from jcl.inference.segmenter import read_for_hub
from jcl.stages.finetune import finetune
from jcl.training.checkpoint import read_state
from jcl.training.run_folder import load_network, read_model, read_run
from support.shared import made_once

FEW: dict[str, Any] = {
    "fold": 0,
    "folds": 3,
    "width": 1,
    "batch_size": 4,
    "steps": 3,
    "checkpoint_minutes": 0.0,
    "precision": "float32",
    "kernels": "off",
    "compile": "off",
}
"""Settings of a training of a second."""


@pytest.fixture(scope="module")
def made(store_path, tmp_path_factory) -> Path:
    """A fine-tuned run with two checkpoints, what is exported of it, and its scores."""

    def make(out: Path) -> None:
        run = finetune(FinetuneConfig(store=store_path, init="none", out=out / "run", **FEW))
        assert cli.main(["evaluate", str(run), "--out", str(out / "results.json")]) == 0
        network, info = load_network(run)
        (out / "hub").mkdir()
        write_hub(out / "hub", network, info, None, "hub")

    return made_once(tmp_path_factory, "sealed", make)


READ: dict[str, Callable[[Path], Any]] = {
    "run/run.json": lambda path: read_run(path.parent, "finetune"),
    "run/split.json": read_split,
    "run/model.json": lambda path: {name: tensor.sum().item() for name, tensor in read_model(path.parent).items()},
    "run/checkpoints/step-000000003/state.json": lambda path: read_state(path.parent),
    "hub/config.json": lambda path: read_for_hub(path.parent)[1],
    "results.json": lambda path: (scores_of(path), read_json(path)),
}
"""What reads each file, as the stages do."""


def flipped(content: bytes, count: int) -> Iterator[bytes]:
    generator = np.random.default_rng(0)
    for place in generator.integers(len(content) * 8, size=count):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << (place % 8)
        yield bytes(changed)


def values_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a value with a key or index in it, however deep."""
    if isinstance(value, dict | list):
        for key, entry in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from values_of(entry)


def another(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value + "x"
        case None:
            return 0
        case list():
            return [*value, 1]
        case _:
            return {**value, "more": 1}


def check(path: Path, contents: Iterator[bytes], read: Callable[[Path], Any]) -> tuple[int, int]:
    """How many of the contents are named, and how many give what the sound file gives; none does anything else."""
    sound, before = path.read_bytes(), read(path)
    named = same = 0
    for content in contents:
        path.write_bytes(content)
        try:
            found = read(path)
        except DataError as error:
            named += path.name in str(error) and "\n" not in str(error)
        else:
            assert found == before, content
            same += 1
    path.write_bytes(sound)
    return named, same


@pytest.mark.parametrize("name", READ)
def test_a_flipped_bit_is_named_or_changes_nothing(made, tmp_path, name):
    copy = shutil.copytree(made, tmp_path / "copy")
    named, same = check(copy / name, flipped((copy / name).read_bytes(), 200), READ[name])
    assert named + same == 200
    assert named > 100  # what changes nothing is a space for a tab, and a capital of an escape


@pytest.mark.parametrize("name", READ)
def test_a_changed_value_is_named(made, tmp_path, name):
    """Every value, at every depth: as class values, clip, padded size, and the digests themselves."""
    copy = shutil.copytree(made, tmp_path / "copy")
    path = copy / name
    content = json.loads(path.read_text())
    assert "seal" in content

    def each() -> Iterator[bytes]:
        for holder, key in values_of(content):
            kept = holder[key]
            holder[key] = another(kept)
            yield json.dumps(content).encode()
            holder[key] = kept

    count = sum(1 for _ in values_of(content))
    assert check(path, each(), READ[name]) == (count, 0)


@pytest.mark.parametrize("key", ["class_values", "clip", "padded", "classes", "spacing"])
def test_the_line_names_the_value(made, tmp_path, key, capsys):
    copy = shutil.copytree(made / "run", tmp_path / "run")
    content = json.loads((copy / "run.json").read_text())
    content["recipe"][key] = [9, 9]
    (copy / "run.json").write_text(json.dumps(content))
    for command in (
        ["predict", str(copy), ".", "--out", "o"],
        ["evaluate", str(copy), "--out", "o"],
        ["verify", str(copy)],
    ):
        assert cli.main(command) == 3
        (line,) = capsys.readouterr().err.splitlines()
        assert "run.json: changed since it was written (not as sealed: 'recipe'); restore it" in line


@pytest.mark.parametrize("change", ["step", "digest", "name"])
def test_of_a_changed_checkpoint_the_one_before_is_used(made, store_path, tmp_path, change):
    """And the run ends in the same weights."""
    run = shutil.copytree(made / "run", tmp_path / "run")
    before = read_model(run)
    for name in ("model.json", "model.safetensors"):
        (run / name).unlink()
    newest, older = run / "checkpoints" / "step-000000003", run / "checkpoints" / "step-000000002"
    assert older.is_dir()
    state = json.loads((newest / "state.json").read_text())
    if change == "name":
        newest.rename(newest.with_name("step-000000009"))
    elif change == "step":
        (newest / "state.json").write_text(json.dumps({**state, "step": 1}))
    else:
        state["sha256"]["state.safetensors"] = "0" * 64
        (newest / "state.json").write_text(json.dumps(state))
    with pytest.warns(UserWarning, match=r"checkpoint passed over: .*state\.json: .*going on from the one before it"):
        finetune(FinetuneConfig(store=store_path, init="none", out=run, resume=True, **FEW))
    after = read_model(run)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_without_a_whole_checkpoint_it_says_that_it_begins_anew(made, store_path, tmp_path):
    run = shutil.copytree(made / "run", tmp_path / "run")
    (run / "model.json").unlink()
    for path in run.glob("checkpoints/*/state.json"):
        path.write_text("{}")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        finetune(FinetuneConfig(store=store_path, init="none", out=run, resume=True, **FEW))
    assert [str(each.message).rpartition("going on ")[2] for each in told if "passed over" in str(each.message)] == [
        "from the one before it",
        "from the first step, as there is no other",
    ]


def test_files_of_earlier_versions_open_and_verify_says_so(made, tmp_path, capsys):
    run = shutil.copytree(made / "run", tmp_path / "run")
    assert cli.main(["verify", str(run)]) == 0
    assert "all JSON files" in capsys.readouterr().out
    for name in ("run.json", "split.json", "model.json"):
        content = json.loads((run / name).read_text())
        del content["seal"]
        (run / name).write_text(json.dumps(content))
    assert cli.main(["verify", str(run)]) == 0
    assert "not sealed" in capsys.readouterr().out
    load_network(run)


def test_a_split_of_a_run_that_was_edited_is_no_split_of_ones_own(made, tmp_path):
    path = shutil.copy(made / "run" / "split.json", tmp_path / "mine.json")
    content = json.loads(Path(path).read_text())
    content["train"], content["test"] = content["test"], content["train"]
    Path(path).write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"mine\.json: changed since it was written .* goes into another file"):
        read_split(Path(path))
    del content["seal"]
    Path(path).write_text(json.dumps(content))
    assert read_split(Path(path)).train == tuple(content["train"])


def test_any_value_that_json_has_can_be_sealed(tmp_path):
    value = {"a": [1, 2.5, -0.0, 1e300, None, True, "\udcff ä\n"], "b": {"3": {}}, "": ()}
    write_json(tmp_path / "x.json", value, seal=True)
    assert read_json(tmp_path / "x.json") == {**value, "": []}
