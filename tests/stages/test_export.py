"""The export stage: what it writes whole, and what it refuses in one line."""

import importlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jcl.cli import main as cli
from jcl.config import ExportConfig
from jcl.errors import DataError, UsageError
from jcl.files import read_json
from jcl.stages import export as stage
from jcl.stages.export import export
from support.exported import LABELS, random_network, write_random_run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_random_run(tmp_path_factory.mktemp("run") / "run")


def test_folder_for_the_hub(run, tmp_path):
    out = export(ExportConfig(run=run, to="hub", out=tmp_path / "new" / "folder"))
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert [path.name for path in out.parent.iterdir()] == ["folder"]
    weights = load_file(out / "model.safetensors")
    for name, tensor in random_network().state_dict().items():
        assert torch.equal(weights[name], tensor), name
    config, info = read_json(out / "config.json"), read_json(run / "run.json")
    for key in ("recipe", "backbone", "versions", "class_names"):
        assert config[key] == info[key]
    assert {label["value"]: label["name"] for label in config["labels"]} == {0: "background", **LABELS}
    assert str(run) not in "".join(path.read_text() for path in (out / "config.json", out / "README.md"))


def test_what_was_exported_can_be_exported_again(run, tmp_path):
    first = export(ExportConfig(run=run, to="hub", out=tmp_path / "first"))
    second = export(ExportConfig(run=first, to="hub", out=tmp_path / "second"))
    assert read_json(first / "config.json") == read_json(second / "config.json")


def test_scores_come_into_the_card(run, tmp_path):
    row = {"dice": 0.75, "jaccard": 0.6, "hd95": None, "asd": 1.5}
    mean = {**row, "dice": 0.5, "classes": {"Myo": row}}
    results = tmp_path / "results.json"
    results.write_text(json.dumps({"cases": [{"case": "a"}], "mean": mean, "unit": "case"}))
    out = export(ExportConfig(run=run, to="hub", out=tmp_path / "out", results=results))
    card = (out / "README.md").read_text()
    assert "| Myo | 0.750 | 0.600 | – | 1.500 |" in card
    assert "| mean | 0.500 | 0.600 | – | 1.500 |" in card
    results.write_text("[]")
    with pytest.raises(DataError, match=r"results.json: not what `jcl evaluate` writes"):
        export(ExportConfig(run=run, to="hub", out=tmp_path / "other", results=results))


def test_what_exists_is_left_alone(run, tmp_path):
    (tmp_path / "there").write_text("mine")
    for to in stage.FORMATS:
        with pytest.raises(UsageError, match="there exists; choose another --out"):
            export(ExportConfig(run=run, to=to, out=tmp_path / "there"))
    assert (tmp_path / "there").read_text() == "mine"


@pytest.mark.parametrize("to", ["monai", "nnunet", "hub"])
def test_a_run_that_cannot_be_used(run, tmp_path, to):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-9] ^= 4
    (copy / "model.safetensors").write_bytes(weights)
    with pytest.raises(DataError, match=r"model.safetensors: damaged"):
        export(ExportConfig(run=copy, to=to, out=tmp_path / "out"))
    (copy / "model.json").unlink()
    with pytest.raises(DataError, match="not finished; go on with the same command and --resume"):
        export(ExportConfig(run=copy, to=to, out=tmp_path / "out"))
    with pytest.raises(DataError, match="no such folder"):
        export(ExportConfig(run=tmp_path / "nothing", to=to, out=tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"to": "tflite"}, "there are onnx, monai, nnunet, hub"),
        ({"to": "onnx", "push": "a/b"}, "--push uploads what --to hub or weights writes"),
        ({"to": "nnunet", "results": Path("r.json")}, "--results has no place in nnunet"),
        ({"to": "nnunet"}, "its backbone is unet, .* pre-train with --backbone plain_conv_unet"),
    ],
)
def test_settings_that_do_not_fit(run, tmp_path, settings, message):
    with pytest.raises(UsageError, match=message):
        export(ExportConfig(run=run, out=tmp_path / "out", **settings))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("to", "package"), [("onnx", "onnx"), ("onnx", "onnxscript"), ("onnx", "onnxruntime")])
def test_missing_packages_are_told_first(run, tmp_path, monkeypatch, to, package):
    monkeypatch.setattr(importlib, "import_module", _without(package, importlib.import_module))
    with pytest.raises(UsageError, match=rf"needs the package {package}: pip install 'jcl-seg\[onnx\]'"):
        export(ExportConfig(run=tmp_path / "not even looked at", to=to, out=tmp_path / "out"))


def _without(missing: str, original):
    def import_module(name: str, package: str | None = None):
        if name == missing:
            raise ImportError(name)
        return object() if name.startswith("onnx") else original(name, package)

    return import_module


def test_nothing_is_left_of_an_export_that_failed(run, tmp_path, monkeypatch):
    def fail(folder: Path, *rest) -> None:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "write_hub", fail)
    with pytest.raises(KeyboardInterrupt):
        export(ExportConfig(run=run, to="hub", out=tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"file/out: cannot be written"):
        export(ExportConfig(run=run, to="hub", out=tmp_path / "file" / "out"))


def test_command(run, tmp_path, capsys):
    assert cli.main(["export", str(run), "--to", "hub", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"written: {tmp_path / 'out'}\n"
    assert cli.main(["export", str(run), "--to", "hub", "--out", str(tmp_path / "out")]) == 2
    assert cli.main(["export", str(tmp_path), "--to", "hub", "--out", str(tmp_path / "new")]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 2
