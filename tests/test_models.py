"""Weights that come with the package: made of a run, listed, checked, and started from by their name."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml

from jcl import models
from jcl.cli.main import main
from jcl.config import ExportConfig, FinetuneConfig, PrepareConfig, PretrainConfig
from jcl.errors import DataError, UsageError
from jcl.files import read_json
from jcl.stages.export import export
from jcl.stages.finetune import finetune
from jcl.stages.prepare import prepare
from jcl.stages.pretrain import pretrain
from jcl.training.run_folder import read_model
from support.scans import write_volumes
from support.shared import made_once

SMALL = {"steps": 2, "batch_size": 4, "precision": "float32", "kernels": "off", "compile": "off"}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A store, a pre-training of it without its test patients, and what is exported of that."""

    def make(out: Path) -> None:
        store = out / "store"
        scans = write_volumes(out / "scans", patients=6, labelled=6)
        prepare(PrepareConfig(source=scans, out=store, labels="1=ball", workers=1))
        method = {"method_settings": {"projection": 8, "blocks": 1}}
        pretrain(PretrainConfig(stores=(store,), out=out / "pre", fold=0, width=2, **SMALL, **method))
        export(ExportConfig(run=out / "pre", to="weights", out=out / "models" / "balls"))

    return made_once(tmp_path_factory, "weights", make)


@pytest.fixture
def packaged(made, monkeypatch) -> Path:
    """As if the package had them."""
    monkeypatch.setattr(models, "FOLDER", made / "models")
    return made / "models" / "balls"


def test_what_is_exported_names_no_place_and_no_patient(made, packaged):
    assert sorted(path.name for path in packaged.iterdir()) == sorted(models.FILES)
    texts = "".join(path.read_text() for path in packaged.iterdir() if path.suffix != ".safetensors")
    assert str(made) not in texts
    assert not any(f"p{number}" in texts for number in range(6))
    weights, kept = read_model(packaged), read_model(made / "pre")
    assert {tensor.dtype for name, tensor in weights.items() if "num_batches" not in name} == {torch.float16}
    assert all(torch.allclose(t.float(), kept[name].float(), rtol=1e-3, atol=1e-6) for name, t in weights.items())
    sheet = models.sheet("balls")
    assert sheet["data"][0]["patients"] == len(read_json(made / "pre" / "split.json")["train"]) == 4
    assert sheet["method"] == "jcl"
    card = huggingface_hub.ModelCard.load(packaged / "README.md")
    assert yaml.safe_load((packaged / "README.md").read_text().split("---")[1])["license"] == "other"
    for words in ("## Data", "Licence: not known", sheet["digests"][0], "jcl finetune store --init balls"):
        assert words in card.text


@pytest.mark.slow
def test_a_fine_tuning_starts_from_its_name_with_its_weights(made, packaged, tmp_path, capsys):
    settings = {"store": made / "store", "patients": 2, "learning_rate": 1e-12, **SMALL}
    run = finetune(FinetuneConfig(init="balls", fold=0, out=tmp_path / "fine", **settings))
    before, after = read_model(packaged), read_model(run)
    taken = [name for name in after if name.startswith("encoder.") and name.endswith("weight")]
    assert len(taken) > 10
    assert all(torch.allclose(after[name], before[f"backbone.{name}"].float(), atol=1e-5) for name in taken)
    init = read_json(run / "run.json")["init"]
    assert init["digest"] == models.sheet("balls")["sha256"]
    # another fold would test on patients whose images were seen
    with pytest.raises(UsageError, match="allow-seen"):
        finetune(FinetuneConfig(init="balls", fold=1, out=tmp_path / "other", **settings))


def test_they_are_listed_with_all_that_is_asked_of_them(packaged, capsys):
    assert main(["models"]) == 0
    shown = capsys.readouterr().out
    for words in ("balls", "not known", "MB", "jcl, 2", models.sheet("balls")["sha256"][:8]):
        assert words in shown
    assert main(["models", "balls"]) == 0
    assert "# balls" in capsys.readouterr().out
    assert main(["models", "bals"]) == 2
    assert "no weights 'bals'; there are: balls" in capsys.readouterr().err


def test_none_is_said_plainly(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(models, "FOLDER", tmp_path)
    assert main(["models"]) == 0
    assert capsys.readouterr().out.startswith("No pre-trained weights come with this package.")
    assert main(["models", "balls"]) == 2
    assert "none come with this package" in capsys.readouterr().err


def test_a_changed_byte_is_noticed(made, monkeypatch, tmp_path):
    shutil.copytree(made / "models", tmp_path / "models")
    monkeypatch.setattr(models, "FOLDER", tmp_path / "models")
    file = tmp_path / "models" / "balls" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    settings = {"store": made / "store", "patients": 2, "fold": 0, **SMALL}
    with pytest.raises(DataError, match="its digest is not the recorded one"):
        finetune(FinetuneConfig(init="balls", out=tmp_path / "fine", **settings))


def test_a_model_of_the_hub_is_taken_from_the_cache(packaged, monkeypatch, tmp_path):
    asked: list[bool] = []

    def download(name: str, *, local_files_only: bool = False, **_: object) -> str:
        asked.append(local_files_only)
        if name == "theirs/empty":
            return str(tmp_path)
        if local_files_only and name == "theirs/new":
            raise OSError("not in the cache")
        return str(packaged)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert models.folder_of("theirs/balls") == str(packaged)
    assert asked == [True]
    assert models.folder_of("theirs/new") == str(packaged)
    assert asked == [True, True, False]
    with pytest.raises(DataError, match=r"has no model\.safetensors"):
        models.folder_of("theirs/empty")


def test_whatever_else_init_may_be_stays_what_it_is(packaged, tmp_path):
    for word in ("none", str(tmp_path), "weights.safetensors", "nothing-like-it"):
        assert models.folder_of(word) == word
    with pytest.raises(UsageError, match=r"did you mean balls\? \(`jcl models` lists them\)"):
        models.folder_of("ball")


def test_what_comes_with_the_package_is_whole():
    assert models.available() == ["hippocampus"]
    for name in models.available():
        sheet = models.sheet(name)
        assert sheet["bytes"] < 10_000_000
        assert sheet["licence"] != "not known"
        read_model(models.FOLDER / name)
        json.loads((models.FOLDER / name / "run.json").read_text())
