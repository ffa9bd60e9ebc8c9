"""Networks of the user's own, by `package.module:factory`."""

import sys

import pytest
import torch

from jcl import backbones
from jcl.backbones._transfer import pretrained_modules_of, transfer
from jcl.errors import UsageError

SETTINGS = {"in_channels": 1, "classes": 3, "width": 2}

SOURCE = """
from jcl.backbones.unet import UNet
from torch import nn

def make(*, in_channels, classes, width):
    return UNet(in_channels=in_channels, classes=classes, width=width)

def bare(**settings):
    return nn.Conv2d(1, 2, 3)

def half(**settings):
    network = make(**settings)
    network.decode = network.parts = None
    return Half()

class Half(nn.Module):
    in_channels, blocks, stride, feature_channels = 1, 4, 16, (1,)
    def encode(self, x): ...
    def decoder_channels(self, blocks): ...

def other_channels(*, in_channels, classes, width):
    return make(in_channels=2, classes=classes, width=width)

def narrow(in_channels, classes):
    return make(in_channels=in_channels, classes=classes, width=2)

class Stranger(nn.Module):
    # all members of a backbone, and no subclass of it
    blocks, stride, feature_channels = 1, 2, (2, 2)
    def __init__(self, in_channels, classes, width):
        super().__init__()
        self.in_channels = in_channels
        self.encoder = nn.Conv2d(in_channels, 2, 1)
        self.up = nn.ConvTranspose2d(2, 2, 2, stride=2)
        self.head = nn.Conv2d(2, classes, 1)
    def encode(self, x):
        x = self.encoder(x)
        return [x, nn.functional.max_pool2d(x, 2)]
    def decode(self, features, blocks=None):
        return features[-1] if blocks == 0 else self.up(features[-1])
    def decoder_channels(self, blocks):
        return 2
    def submodule_names(self, blocks):
        return ("encoder", "up")[:1 + blocks]
    def forward(self, x):
        return self.head(self.decode(self.encode(x)))

def number(**settings):
    return 3

CONSTANT = 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "mynets.py").write_text(SOURCE)
    (tmp_path / "lame.py").write_text("import not_installed_anywhere")
    (tmp_path / "spoilt.py").write_text("def (")
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    yield
    for name in ("mynets", "lame", "spoilt", "package", "package.inner"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["mynets:make", "package.inner:make"])
def test_a_factory_in_the_current_folder(name):
    network = backbones.load(name)(**SETTINGS)
    assert network(torch.rand(1, 1, 32, 32)).shape == (1, 3, 32, 32)


def test_a_network_that_is_no_subclass_is_taken_everywhere():
    network = backbones.load("mynets:Stranger")(**SETTINGS)
    assert isinstance(network, backbones.Backbone)
    weights = {name: torch.ones_like(tensor) for name, tensor in network.state_dict().items()}
    assert transfer(network, weights, pretrained_modules_of(network, weights)).fresh == ("head.weight", "head.bias")
    assert network.decode(network.encode(torch.zeros(1, 1, 4, 4))).eq(3.0).all()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere:make", "no module 'nowhere', neither in "),
        ("package.nowhere:make", "no module 'package.nowhere', neither in "),
        ("nowhere.inner:make", "no module 'nowhere.inner', neither in "),
        (
            "lame:make",
            r"module lame cannot be imported \(ModuleNotFoundError: No module named 'not_installed_anywhere'",
        ),
        ("spoilt:make", r"module spoilt cannot be imported \(SyntaxError"),
        ("mynets:maek", "mynets has no function or class 'maek'; it has: Half, Stranger, UNet"),
        ("mynets:CONSTANT", "mynets has no function or class 'CONSTANT'"),
        (":make", "module  cannot be imported"),
        ("mynets", "no backbone 'mynets'; there are: .*unet3d, and package.module:factory"),
    ],
)
def test_what_cannot_be_imported(name, said):
    with pytest.raises(UsageError, match=said) as caught:
        backbones.load(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bare", "Conv2d lacks blocks, feature_channels, encode, decode, decoder_channels, submodule_names of"),
        ("half", "Half lacks decode, submodule_names of"),
        ("other_channels", "made a network for 2 channels; 1 were asked for"),
        ("narrow", r"has to take in_channels, classes, width by name \(got an unexpected keyword argument 'width'"),
        ("number", "returned a int, no torch.nn.Module"),
    ],
)
def test_what_is_no_backbone(name, said):
    make = backbones.load(f"mynets:{name}")
    with pytest.raises(UsageError, match=f"^mynets:{name}:? {said}") as caught:
        make(**SETTINGS)
    assert "\n" not in str(caught.value)
