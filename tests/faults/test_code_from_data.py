"""Folders and files that name code: nothing of it runs, whichever command or function is given them."""

import hashlib
import json
import sys
from pathlib import Path

import pytest
import safetensors.torch

import jcl
from jcl.cli import main as cli
from jcl.errors import JclError, UsageError
from jcl.export.hub import write_hub
from support.scans import write_volumes
from support.thresholds import make_recipe_of, threshold_network, write_run

MODULE = """
from pathlib import Path
from subprocess import run
import torch
from torch.nn import Conv2d
from jcl.backbones.unet import UNet

Path("RAN").touch()

class Own(UNet):
    pass

def make(**settings) -> UNet:
    return UNet(**settings)

def plain(**settings):
    Path("CALLED").touch()

imported = make
class NoModule:
    def __init__(self, **settings):
        Path("CALLED").touch()
"""

HOSTILE = {
    "a call": {"name": "subprocess:run", "args": ["touch", "RAN"]},
    "a call of a module of the folder": {"name": "own:make"},
    "a class": {"name": "own:Own"},
    "an expression": {"name": "own:make()"},
    "a deeper name": {"name": "own:Path.touch"},
    "a built-in function": {"name": "builtins:exec", "source": "pass"},
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a module that leaves RAN where it is imported."""
    (tmp_path / "own.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("own", None)


@pytest.fixture
def run(here):
    return write_run(here / "run", threshold_network(0.5), make_recipe_of({1: "ball"}))


def rename(file: Path, **backbone: object) -> None:
    """As one who makes a folder would: a seal is no signature, so it is left out."""
    content = json.loads(file.read_text())
    content.pop("seal", None)
    given = {} if "args" in backbone or "source" in backbone else content["backbone"]
    file.write_text(json.dumps({**content, "backbone": {**given, **backbone}}))


def hub_folder(here: Path) -> Path:
    (here / "hub").mkdir()
    info = json.loads((here / "run" / "run.json").read_text())
    write_hub(here / "hub", threshold_network(0.5), info, None, "hub")
    return here / "hub"


def nothing_ran(here: Path) -> bool:
    return not (here / "RAN").exists() and not (here / "CALLED").exists() and "own" not in sys.modules


@pytest.mark.parametrize("backbone", HOSTILE.values(), ids=HOSTILE)
def test_no_command_runs_what_a_run_names(here, run, backbone, store_path, capsys):
    rename(run / "run.json", **backbone)
    hub = hub_folder(here) if "args" not in backbone and "source" not in backbone else None
    write_volumes(here / "scans", patients=1, labelled=0)
    commands = [
        ["predict", "run", "scans", "--out", "out"],
        ["evaluate", "run", "--store", str(store_path), "--out", "r.json"],
        ["export", "run", "--to", "monai", "--out", "e"],
        ["export", "run", "--to", "hub", "--out", "e"],
        *(
            [["predict", "hub", "scans", "--out", "out"], ["export", "hub", "--to", "monai", "--out", "e"]]
            if hub
            else []
        ),
    ]
    for command in commands:
        assert cli.main(command) == 2, command
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert backbone["name"].partition(":")[0] in lines[0]
        assert "--trust-code" in lines[0]
        assert "run.json" in lines[0] or "config.json" in lines[0]
    for folder in filter(None, ("run", hub)):
        with pytest.raises(UsageError, match="trust_code=True"):
            jcl.load(folder)
    assert nothing_ran(here)


def test_no_fine_tuning_runs_what_a_pre_training_names(here, store_path, capsys):
    few = ("--steps", "1", "--batch-size", "4", "--fold", "0", "--folds", "3")
    assert cli.main(["pretrain", str(store_path), "--method", "simclr", "--width", "2", *few, "--out", "pre"]) == 0
    rename(here / "pre" / "run.json", name="own:make")
    command = ["finetune", str(store_path), "--init", "pre", "--steps", "1", "--out", "fine"]
    capsys.readouterr()
    assert cli.main(command) == 2
    assert "pre/run.json: names the network 'own:make'" in capsys.readouterr().err
    assert nothing_ran(here)
    assert cli.main([*command, "--trust-code"]) == 0
    assert (here / "RAN").exists()


def test_what_the_user_types_needs_no_leave(here, store_path):
    few = ("--steps", "1", "--batch-size", "4", "--fold", "0", "--folds", "3", "--width", "2")
    command = ["finetune", str(store_path), "--init", "none", "--backbone", "own:Own", *few, "--out", "fine"]
    assert cli.main(command) == 0
    assert cli.main([*command, "--resume"]) == 0


@pytest.mark.parametrize("name", ["own:make", "own:Own"])
def test_with_leave_what_the_module_itself_defines_is_built(here, run, name):
    rename(run / "run.json", name=name)
    assert jcl.load(run, trust_code=True).classes == ("ball",)


@pytest.mark.parametrize(
    "name", ["own:run", "own:Conv2d", "own:UNet", "own:NoModule", "own:Path", "own:plain", "subprocess:run"]
)
def test_with_leave_nothing_else_of_it_is_called(here, run, name):
    rename(run / "run.json", name=name)
    with pytest.raises(UsageError):
        jcl.load(run, trust_code=True)
    assert not (here / "CALLED").exists()


@pytest.mark.parametrize(
    "arguments", [{"width": {"a": 1}}, {"width": "../x"}, {"width": [["$(id)"]]}, {"a b": 1}, {"width": None}]
)
@pytest.mark.parametrize("name", ["unet", "own:make"])
def test_arguments_are_plain(here, run, name, arguments):
    rename(run / "run.json", name=name, **arguments)
    with pytest.raises(JclError, match=r"run\.json: "):
        jcl.load(run, trust_code=True)
    assert nothing_ran(here)


@pytest.mark.parametrize("backbone", [None, [], "unet", {"name": 3}, {"name": "unet", "args": [1]}, {"name": "os"}])
def test_a_network_that_is_none(here, run, backbone):
    content = json.loads((run / "run.json").read_text())
    content.pop("seal", None)
    (run / "run.json").write_text(json.dumps({**content, "backbone": backbone}))
    with pytest.raises(JclError, match=r"run\.json: "):
        jcl.load(run)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('backbone = "own:make"', "names the network 'own:make'"),
        ('method = "own:Own"', "names the method 'own:Own'"),
        ("trust_code = true", "trust_code is not for files"),
    ],
)
def test_settings_files(here, store_path, text, said, capsys):
    (here / "settings.toml").write_text(text)
    assert cli.main(["pretrain", str(store_path), "--config", "settings.toml", "--steps", "1", "--out", "pre"]) == 2
    assert said in capsys.readouterr().err
    assert nothing_ran(here)


RECIPE = """
title = "t"
[stores.a]
source = "scans"
[methods.x]
method = "none"
[[tables]]
name = "t"
title = "t"
methods = ["x"]
pretrain_on = ["a"]
finetune_on = "a"
patients = [1]
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('method = "none"', 'method = "own:Own"'), "names the method 'own:Own'"),
        (('method = "none"', 'method = "none"\nbackbone = "own:make"'), "names the network 'own:make'"),
        (("[methods.x]", '[pretrain]\nbackbone = "own:make"\n[methods.x]'), "names the network 'own:make'"),
        (("[[tables]]", '[methods.x.finetune]\nbackbone = "own:make"\n[[tables]]'), "names the network 'own:make'"),
        (("[methods.x]", "[pretrain]\ntrust_code = true\n[methods.x]"), "unknown key 'trust_code'"),
        (('"scans"', '"../scans"'), "a folder below --data"),
        (('"scans"', '"/etc"'), "a folder below --data"),
    ],
)
def test_recipes(here, change, said, capsys):
    (here / "mine.toml").write_text(RECIPE.replace(*change, 1))
    assert cli.main(["benchmark", "mine.toml", "--data", str(here), "--out", "bench", "--dry-run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert nothing_ran(here)


def test_verify_says_what_a_folder_would_import(here, run, capsys):
    assert cli.main(["verify", "run"]) == 0
    assert "comes with jcl" in capsys.readouterr().out
    hub = hub_folder(here)
    for folder, file in ((run, "run.json"), (hub, "config.json")):
        rename(folder / file, name="own:make")
        assert cli.main(["verify", str(folder)]) == 0
        said = capsys.readouterr().out
        assert "own:make" in said
        assert "would import own" in said
    assert nothing_ran(here)


def test_weights_that_carry_metadata_and_pickles(here, run):
    """The metadata of a safetensors file are not read; a pickle is refused, also where the digest is its own."""
    hub = hub_folder(here)
    path, config = hub / "model.safetensors", json.loads((hub / "config.json").read_text())
    config.pop("seal", None)

    def vouched(content: bytes) -> None:
        path.write_bytes(content)
        (hub / "config.json").write_text(json.dumps({**config, "sha256": hashlib.sha256(content).hexdigest()}))

    tensors = safetensors.torch.load_file(path)
    vouched(safetensors.torch.save(tensors, {"backbone": "own:make", "code": "__import__('own')", "format": "pt"}))
    assert jcl.load(hub).classes == ("ball",)
    pickled = b"\x80\x04cos\nsystem\n(S'touch RAN'\ntR."
    vouched(pickled)
    with pytest.raises(JclError, match="a pickle, which can run code"):
        jcl.load(hub)
    path.write_bytes(pickled + b"\0")
    with pytest.raises(JclError, match="damaged"):
        jcl.load(hub)
    assert nothing_ran(here)
