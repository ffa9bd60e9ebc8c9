"""`jcl.load`: a run, a folder for the hub, the hub; and that it segments as `jcl predict` does."""

import json
import shutil
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import SimpleITK as sitk
import torch

import jcl
from jcl.config import ExportConfig, PredictConfig
from jcl.errors import DataError, UsageError
from jcl.files import read_json, write_json
from jcl.stages.export import export
from jcl.stages.predict import predict
from support.dicomfiles import write_series
from support.exported import random_network, write_random_run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_random_run(tmp_path_factory.mktemp("run") / "run", spacing=1.5)


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory) -> Path:
    return export(ExportConfig(run=run, to="hub", out=tmp_path_factory.mktemp("hub") / "folder"))


def scan(path: Path, *shape: int) -> Path:
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(100, 20, shape).astype(np.float32))
    if len(shape) == 3:
        image.SetSpacing((1.0, 1.2, 6.0))
        image.SetDirection((0, 0, -1, 1, 0, 0, 0, -1, 0))
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("source", ["run", "folder"])
def test_what_comes_back(source, request):
    segmenter = jcl.load(request.getfixturevalue(source))
    assert segmenter.classes == ("Myo", "LV", "RV")
    assert segmenter.preparation["spacing"] == 1.5
    assert not segmenter.network.training
    image = torch.rand(1, 1, 32, 48)
    assert torch.equal(segmenter.network(image), random_network()(image))


@pytest.mark.parametrize("source", ["run", "folder"])
def test_it_segments_as_predict_does(source, request, tmp_path):
    path = scan(tmp_path / "x.nii.gz", 4, 30, 41)
    model = request.getfixturevalue(source)
    labels = jcl.load(model).segment(path, out=tmp_path / "mine.nii.gz", precision="float32")
    (written,) = predict(PredictConfig(run=model, source=path, out=tmp_path / "out", precision="float32"))
    for file in (written, tmp_path / "mine.nii.gz"):
        image = sitk.ReadImage(str(file))
        differ = sitk.GetArrayFromImage(image) != labels
        assert differ.mean() < 1e-3  # predict folds normalisations into convolutions: near ties round either way
        assert image.GetDirection() == pytest.approx(sitk.ReadImage(str(path)).GetDirection())
    assert len(np.unique(labels)) >= 3
    assert set(np.unique(labels)) <= {0, 200, 500, 600}


def test_pictures_and_series(run, tmp_path):
    segmenter = jcl.load(str(run))
    picture = tmp_path / "x.png"
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(20 * 30, dtype=np.uint8).reshape(20, 30)), str(picture))
    assert segmenter.segment(str(picture)).shape == (20, 30)
    array = np.random.default_rng(0).integers(0, 100, (5, 20, 24)).astype(np.int16)
    write_series(tmp_path / "study", array, series="a")
    assert segmenter.segment(tmp_path / "study").shape == (5, 20, 24)
    write_series(tmp_path / "two" / "b", array, series="b")
    write_series(tmp_path / "two" / "c", array, series="c")
    with pytest.raises(DataError, match="2 DICOM series"):
        segmenter.segment(tmp_path / "two")


def test_from_the_hub(folder, monkeypatch):
    """The download is taken from a folder; what is asked for is all that there is to see of it."""
    asked: list[tuple] = []

    def snapshot(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision, sorted(allow_patterns)))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert jcl.load("someone/heart-4", revision="v2").classes == ("Myo", "LV", "RV")
    assert asked == [("someone/heart-4", "v2", ["config.json", "model.safetensors"])]


def test_a_download_does_not_say_what_is_imported(monkeypatch, tmp_path, folder):
    copied = shutil.copytree(folder, tmp_path / "model")
    config = json.loads((copied / "config.json").read_text())
    config["backbone"]["name"] = "antigravity:make"
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(copied))
    config.pop("seal", None)
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="names the network 'antigravity:make'"):
        jcl.load("someone/heart")
    assert "antigravity" not in sys.modules


def test_without_a_network_one_line_tells(monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def snapshot(name: str, **settings) -> str:
        raise LocalEntryNotFoundError("Cannot find the requested files\nin the cache")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(DataError, match=r"someone/heart: no such folder, .* in the cache") as failure:
        jcl.load("someone/heart")
    assert "\n" not in str(failure.value)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match=r"pip install 'jcl-seg\[hub\]'"):
        jcl.load("someone/heart")


@pytest.mark.parametrize("name", ["not there", "a/b/c", "/nowhere/at/all"])
def test_what_is_no_name(name):
    with pytest.raises(DataError, match="no such folder, and no model"):
        jcl.load(name)


def test_damaged_and_foreign_folders(folder, tmp_path):
    def spoilt(change) -> Path:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        change(copy)
        return copy

    def flip(copy: Path) -> None:
        content = bytearray((copy / "model.safetensors").read_bytes())
        content[-5] ^= 1
        (copy / "model.safetensors").write_bytes(content)

    def replace(copy: Path, **values) -> None:
        write_json(copy / "config.json", {**read_json(copy / "config.json"), **values}, seal=True)

    cases = [
        (flip, r"model.safetensors: damaged"),
        (lambda copy: (copy / "model.safetensors").unlink(), r"model.safetensors: cannot be read"),
        (lambda copy: (copy / "config.json").write_text("{"), r"config.json: not a JSON file"),
        (lambda copy: replace(copy, library_name="transformers"), "of another program"),
        (lambda copy: replace(copy, format=2), "format 2; this jcl reads format 1"),
        (lambda copy: (copy / "config.json").unlink(), "not a run folder"),
    ]
    for change, message in cases:
        with pytest.raises(DataError, match=message):
            jcl.load(spoilt(change))
