"""What a user meets who starts from other weights: files, other channels, networks of their own."""

import json
import pickle
import struct
import sys
from pathlib import Path

import pytest
import safetensors.torch
import SimpleITK as sitk
import torch

from jcl.backbones.plain_conv_unet import PlainConvUNet
from jcl.backbones.unet import UNet
from jcl.cli import main as cli
from jcl.config import PrepareConfig
from jcl.files import read_json
from jcl.stages.prepare import prepare
from jcl.training.checkpoint import write_weights
from jcl.training.run_folder import load_network, read_model
from support.scans import write_volumes

NETS = """
from jcl.backbones.unet import UNet

def make(*, in_channels, classes, width) -> UNet:
    return UNet(in_channels=in_channels, classes=classes, width=width)
"""


def finetune(store: Path, out: Path, *more: str) -> int:
    return cli.main(
        ["finetune", str(store), "--out", str(out), "--folds", "3", "--patients", "2", "--steps", "1", *more]
    )


@pytest.fixture
def said(capsys):
    """What went to stderr; for an error, one line."""

    def read(code: int) -> str:
        text = capsys.readouterr().err
        if code:
            lines = [line for line in text.splitlines() if line.startswith("jcl: error:")]
            assert len(lines) == 1
            return lines[0]
        return text

    return read


@pytest.fixture
def weights(tmp_path) -> Path:
    """A U-Net of width 2 with three channels and other classes, as another program may have saved it."""
    torch.manual_seed(1)
    state = UNet(in_channels=3, classes=7, width=2).state_dict()
    path = tmp_path / "weights.safetensors"
    write_weights(path, {f"module.{name}": tensor for name, tensor in state.items()})
    return path


@pytest.mark.parametrize("adapt", ["mean", "repeat"])
def test_a_file_of_weights(store_path, weights, tmp_path, said, adapt):
    more = ["--init", str(weights), "--width", "2", "--adapt", adapt, "--learning-rate", "1e-12"]
    assert finetune(store_path, tmp_path / "run", *more) == 0
    assert f"1 adapted to the number of channels by {adapt}, 100.0% of the parameters; fresh: head" in said(0)
    info = read_json(tmp_path / "run" / "run.json")
    assert info["init"]["run"] == str(weights)
    assert info["settings"]["adapt"] == adapt
    before, after = safetensors.torch.load_file(weights), read_model(tmp_path / "run")
    first = before["module.encoder.blocks.0.0.weight"]
    expected = first.sum(1, keepdim=True) if adapt == "mean" else 3 * first[:, :1]
    torch.testing.assert_close(after["encoder.blocks.0.0.weight"], expected, atol=1e-5, rtol=1e-5)
    deep = "decoder.3.units.3.weight"
    torch.testing.assert_close(after[deep], before[f"module.{deep}"], atol=1e-5, rtol=1e-5)


def test_weights_in_nnunets_layout_with_their_second_names(store_path, tmp_path, said):
    state = PlainConvUNet(width=2).state_dict()
    encoder = {f"decoder.{name}": t.clone() for name, t in state.items() if name.startswith("encoder")}
    write_weights(tmp_path / "w.safetensors", {**state, **encoder})
    more = ["--init", str(tmp_path / "w.safetensors"), "--backbone", "plain_conv_unet", "--width", "2"]
    assert finetune(store_path, tmp_path / "run", *more) == 0
    text = said(0)
    assert "fresh: decoder.seg_layers" in text
    assert "not used" not in text


def header(value: dict) -> bytes:
    text = json.dumps(value).encode()
    return struct.pack("<Q", len(text)) + text


HUGE = {"w": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pth", pickle.dumps({"network_weights": {}}), "a pickle, which can run code when it is opened"),
        ("w.safetensors", b"PK\x03\x04", "a pickle"),
        ("w.safetensors", header(HUGE) + b"1234", "a safetensors file with a damaged header"),
        ("w.safetensors", struct.pack("<Q", 2**62) + b"{}", "not a safetensors file, or cut short"),
        ("w.safetensors", None, "cannot be read (no such file)"),
        (
            "w.safetensors",
            safetensors.torch.save({"w": torch.ones(9)})[:-5],
            "a safetensors file with a damaged header",
        ),
        ("w.safetensors", safetensors.torch.save({"w": torch.ones(9)}), "Their names are as w; its are as encoder."),
    ],
)
def test_files_that_cannot_be_used(store_path, tmp_path, said, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert finetune(store_path, tmp_path / "run", "--init", str(path), "--width", "2") == 3
    line = said(3)
    assert str(path) in line
    assert message in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--width", "4"],
            "another width: encoder.blocks.0.0.weight has shape (2, 3, 3, 3) in the pre-trained weights",
        ),
        (["--width", "2", "--backbone", "plain_conv_unet"], "none of the pre-trained weights belong to this network"),
    ],
)
def test_another_network(store_path, weights, tmp_path, said, more, message):
    assert finetune(store_path, tmp_path / "run", "--init", str(weights), *more) == 3
    assert message in said(3)


def test_a_depth_more(store_path, tmp_path, said):
    state = {name: t for name, t in PlainConvUNet(width=2).state_dict().items() if ".stages.4." not in name}
    write_weights(tmp_path / "w.safetensors", state)
    more = ["--init", str(tmp_path / "w.safetensors"), "--backbone", "plain_conv_unet", "--width", "2"]
    assert finetune(store_path, tmp_path / "run", *more) == 3
    assert "lack encoder.stages.4.0.convs.0.conv.weight" in said(3)


@pytest.fixture
def mynets(tmp_path, monkeypatch):
    (tmp_path / "mynets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "mynets:make"
    sys.modules.pop("mynets", None)


def test_a_network_of_ones_own_from_start_to_end(store_path, tmp_path, mynets, said):
    """Pre-training, fine-tuning and loading, by the name that run.json records."""
    command = ["pretrain", str(store_path), "--out", "pre", "--method", "simclr", "--steps", "1", "--batch-size", "4"]
    command += ["--fold", "0", "--folds", "3"]
    assert cli.main([*command, "--backbone", mynets, "--width", "2"]) == 0
    assert read_json(tmp_path / "pre" / "run.json")["backbone"]["name"] == mynets
    assert finetune(store_path, Path("fine"), "--init", "pre", "--trust-code") == 0
    assert "60 tensors loaded" in said(0)  # five stages, two convolutions and normalisations of 1 + 5 tensors each
    assert read_json(tmp_path / "fine" / "run.json")["backbone"]["name"] == mynets
    network, _ = load_network(tmp_path / "fine", trust_code=True)
    assert isinstance(network, UNet)


def test_a_network_of_ones_own_that_is_gone(store_path, tmp_path, mynets, said):
    assert finetune(store_path, Path("fine"), "--init", "none", "--backbone", "mynet:make") == 2
    assert "no module 'mynet', neither in " in said(2)


def test_a_run_with_other_channels(store_path, tmp_path, said):
    """Pre-trained on grey scans, fine-tuned on colour."""
    command = ["pretrain", str(store_path), "--out", str(tmp_path / "pre"), "--steps", "1", "--batch-size", "4"]
    assert cli.main([*command, "--method", "simclr", "--width", "2"]) == 0
    scans, store = write_volumes(tmp_path / "scans"), tmp_path / "colour"
    for path in (scans / "images").iterdir():
        sitk.WriteImage(sitk.Compose(*[sitk.ReadImage(str(path))] * 3), str(path))
    prepare(PrepareConfig(source=scans, out=store, labels="1=ball", channels=3, workers=1))
    assert finetune(store, tmp_path / "fine", "--init", str(tmp_path / "pre")) == 0
    assert "1 adapted to the number of channels by mean" in said(0)
