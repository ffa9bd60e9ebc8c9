"""What nnU-Net's loader asks for, against the names and shapes of its own network (see make_plain_conv_unet.py)."""

import json
from pathlib import Path

import pytest
import torch

from jcl.backbones.plain_conv_unet import PlainConvUNet
from jcl.config import ExportConfig
from jcl.data.context import with_context
from jcl.errors import UsageError
from jcl.export.nnunet import write_nnunet
from jcl.stages.export import export
from jcl.training.run_folder import save_model, start_run
from support.thresholds import make_recipe_of

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
