"""What nnU-Net's loader asks for, against the names and shapes of its own network (see make_plain_conv_unet.py).

Where `JCL_NNUNET` is the Python of an environment with nnU-Net (see check_nnunet.py), its own loader is asked too.
"""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

from jcl import backbones
from jcl.backbones.plain_conv_unet import PlainConvUNet
from jcl.config import ExportConfig
from jcl.data.context import with_context
from jcl.errors import UsageError
from jcl.export.nnunet import write_nnunet
from jcl.stages.export import export
from jcl.training.run_folder import save_model, start_run
from support.thresholds import make_recipe_of

NNUNET = os.environ.get("JCL_NNUNET")
ORACLES = Path(__file__).parents[1] / "oracles"
OTHERS = json.loads((ORACLES / "nnunet_networks.json").read_text())
STATE = json.loads((Path(__file__).parents[1] / "oracles" / "plain_conv_unet.json").read_text())["state"]
TRAINED = ("encoder", "decoder.transpconvs.0", "decoder.stages.0")


@pytest.fixture
def network() -> PlainConvUNet:
    torch.manual_seed(3)
    return PlainConvUNet(in_channels=2, classes=3, width=2)


@pytest.fixture
def run(network, tmp_path) -> Path:
    """A pre-training of the network; the method around it has weights of its own, and no decoder beyond the first."""
    method = torch.nn.Module()
    method.backbone, method.projector = network, torch.nn.Linear(2, 2)
    del network.decoder.stages[2:]
    backbone = {"name": "plain_conv_unet", "in_channels": 2, "classes": 3, "width": 2}
    stores = [{"path": "/somewhere", "digest": "d1"}]
    info = {"kind": "pretrain", "settings": {"seed": 3, "out": "/x"}, "backbone": backbone, "stores": stores}
    start_run(tmp_path / "pre", {**info, "transfers": list(TRAINED)})
    save_model(tmp_path / "pre", method)
    return tmp_path / "pre"


def read(folder: Path) -> dict:
    """By the way that runs no code."""
    return torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=True)


def test_all_that_the_loader_asks_for(run, network, tmp_path, capsys):
    """It asserts that each name of its network but the heads is there with the same shape, and copies by name."""
    out = export(ExportConfig(run=run, to="nnunet", out=tmp_path / "out"))
    weights = read(out)["network_weights"]
    for name, shape in STATE.items():
        if ".seg_layers." not in name:
            assert list(weights[name].shape) == shape, name
    own = network.state_dict()
    assert own.keys() < weights.keys()
    for name, tensor in weights.items():
        plain = name.replace("decoder.encoder.", "encoder.")
        plain = plain.replace("all_modules.0.", "conv.").replace("all_modules.1.", "norm.")
        if plain in own:
            assert torch.equal(tensor, own[plain]), name
    assert "random in nnU-Net too: decoder.stages.1, decoder.stages.2, decoder.stages.3" in capsys.readouterr().err


def test_what_travels_along(run, tmp_path):
    out = export(ExportConfig(run=run, to="nnunet", out=tmp_path / "out"))
    assert sorted(path.name for path in out.iterdir()) == ["dataset.json", "fold_0", "plans.json"]
    plans = json.loads((out / "plans.json").read_text())
    for record in (read(out)["jcl"], plans["jcl"], json.loads((out / "dataset.json").read_text())["jcl"]):
        assert record["training"]["data_digests"] == ["d1"]
        assert record["training"]["settings"] == {"seed": 3}
        assert record["backbone"]["name"] == "plain_conv_unet"
    keywords = plans["configurations"]["2d"]["architecture"]["arch_kwargs"]
    assert keywords["features_per_stage"] == [2, 4, 8, 16, 32]


def test_the_same_file_each_time(run, tmp_path):
    """Also of what is drawn anew; and the caller's generator is left as it is."""
    torch.manual_seed(11)
    first = read(export(ExportConfig(run=run, to="nnunet", out=tmp_path / "a")))["network_weights"]
    state = torch.get_rng_state()
    second = read(export(ExportConfig(run=run, to="nnunet", out=tmp_path / "b")))["network_weights"]
    assert all(torch.equal(first[name], second[name]) for name in second)
    assert torch.equal(torch.get_rng_state(), state)


def test_other_backbones(tmp_path):
    info = {"kind": "pretrain", "backbone": {"name": "unet", "in_channels": 1, "classes": 2, "width": 2}}
    start_run(tmp_path / "pre", info)
    save_model(tmp_path / "pre", torch.nn.Linear(2, 2))
    with pytest.raises(UsageError, match="pre-train with --backbone plain_conv_unet"):
        export(ExportConfig(run=tmp_path / "pre", to="nnunet", out=tmp_path / "out"))


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_neighbours_have_no_place_there(network, tmp_path, kind):
    backbone = {"name": "plain_conv_unet", "in_channels": 3, "classes": 2, "width": 2}
    info = {"kind": kind, "backbone": backbone, "settings": {"context": 1}, "versions": {}}
    if kind == "finetune":
        info["recipe"] = with_context(make_recipe_of({1: "ball"}), 1)
    with pytest.raises(UsageError, match=r"pre: it sees each slice with its neighbours \(context 1\).*--context 0"):
        write_nnunet(tmp_path, network.state_dict(), info, what="pre")
    assert not [*tmp_path.iterdir()]


STRIDES = [[1, 2, 2], [2, 2, 2]]


def exported(folder: Path, name: str) -> tuple[Path, torch.nn.Module]:
    """A pre-training with two decoder blocks less than the network has, as nnU-Net takes it."""
    torch.manual_seed(3)
    deep = {"strides": STRIDES} if backbones.dimensions(name) == 3 else {}
    settings = {"in_channels": 2, "classes": 3, "width": 2, **deep}
    method = torch.nn.Module()
    method.backbone = backbones.load(name)(**settings)
    trained = method.backbone.submodule_names(1)
    info = {"kind": "pretrain", "settings": {}, "backbone": {"name": name, **settings}, "stores": []}
    start_run(folder / "pre", {**info, "transfers": list(trained)})
    save_model(folder / "pre", method)
    return export(ExportConfig(run=folder / "pre", to="nnunet", out=folder / "out")), method.backbone


@pytest.mark.parametrize("name", [name for name in OTHERS if name != "made by"])
def test_the_other_networks_have_all_names_and_shapes_too(tmp_path, name):
    out, network = exported(tmp_path, name)
    weights = read(out)["network_weights"]
    own = network.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in own.items())
    heads = {key: shape for key, shape in OTHERS[name]["parameters"].items() if ".seg_layers." in key}
    shapes = {**{key: list(value.shape) for key, value in weights.items()}, **heads}
    assert hashlib.sha256(json.dumps(dict(sorted(shapes.items()))).encode()).hexdigest() == OTHERS[name]["state"]
    configuration, plan = next(iter(json.loads((out / "plans.json").read_text())["configurations"].items()))
    keywords = plan["architecture"]["arch_kwargs"]
    sides = backbones.dimensions(name)
    assert configuration == ("2d" if sides == 2 else "3d_fullres")
    assert read(out)["init_args"]["configuration"] == configuration
    assert keywords["strides"] == ([[1, 1, 1], *STRIDES] if sides == 3 else [[1, 1], *[[2, 2]] * 4])
    assert keywords["features_per_stage"] == list(network.feature_channels)
    assert ("n_blocks_per_stage" in keywords) == name.startswith("residual")


@pytest.mark.skipif(not NNUNET, reason="JCL_NNUNET names no Python of an environment with nnU-Net")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain_conv_unet", *(name for name in OTHERS if name != "made by")])
def test_nnunets_own_loader_takes_all_of_it(tmp_path, name):
    """Its network is filled with NaN first; then every weight but those of the heads is as exported."""
    out, _ = exported(tmp_path, name)
    environment = {**os.environ, "PYTHONPATH": ""}
    command = [str(NNUNET), str(ORACLES / "check_nnunet.py"), str(out)]
    said = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert said.returncode == 0, said.stderr
    assert "nnU-Net took all" in said.stdout
