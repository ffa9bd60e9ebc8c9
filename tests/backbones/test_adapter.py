"""The adapter: what it finds by itself, and what it says of stages that do not fit (MONAI's networks: the file beside).

Two levels, worked out by hand: `first` keeps the size, `down` halves it, `up` doubles it.
"""

import copy

import pytest
import torch
from torch import Tensor, nn

from jcl.backbones._adapter import adapt, unwrap
from jcl.backbones.plain_conv_unet import PlainConvUNet
from jcl.errors import UsageError
from jcl.training.checkpoint import read_weights, write_weights
from support.foreignnets import PLAIN, plain


class Up(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(5, 4, 2, stride=2)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.up(x) + skip


class Tiny(nn.Module):
    """Submodules for every way to get it wrong; the deepest goes through a sigmoid if it is `gated`."""

    def __init__(self, *, gated: bool = False) -> None:
        super().__init__()
        self.gated = gated
        self.first = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.down = nn.Conv2d(4, 5, 2, stride=2)
        self.up = Up()
        self.head = nn.Conv2d(4, 3, 1)
        self.never = nn.Conv2d(4, 5, 2, stride=2)
        self.again = self.first

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        deep = self.down(x)
        return self.head(self.up(torch.sigmoid(deep) if self.gated else deep, x))


FITS = {"encoder": ["first", "down"], "decoder": ["up"], "head": "head"}


def gate(up: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
    return up(torch.sigmoid(x), skip)


def test_what_is_found_by_hand():
    network = adapt(Tiny(), **FITS)
    assert (network.in_channels, network.blocks, network.stride) == (2, 1, 2)
    assert network.feature_channels == (4, 5)
    assert [network.decoder_channels(blocks) for blocks in (0, 1)] == [5, 4]
    assert network.submodule_names(0) == ("module.first", "module.down")
    assert network.submodule_names(1) == ("module.first", "module.down", "module.up")
    assert network(torch.rand(1, 2, 7, 3)).shape == (1, 3, 7, 3)


def test_the_dry_run_leaves_the_module_as_it_was():
    module = Tiny()
    module.down.eval()
    before = copy.deepcopy(module.state_dict())
    adapt(module, **FITS)
    assert module.first.training
    assert not module.down.training
    assert all(map(torch.equal, module.state_dict().values(), before.values()))
    assert not any(m._forward_pre_hooks for m in module.modules())


def test_what_happens_between_the_stages_is_noticed_and_can_be_said():
    with pytest.raises(UsageError, match="another output than Tiny itself"):
        adapt(Tiny(gated=True), **FITS)
    module = Tiny(gated=True)
    network = adapt(module, **{**FITS, "decoder": [(gate, "up")]}).eval()
    x = torch.rand(2, 2, 16, 16)
    assert torch.equal(network(x), module(x))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoder": ["first", "donw"]}, "Tiny has no submodule 'donw'; it has: down"),
        ({"encoder": ["first", "never"]}, "Tiny does not call its never in a forward pass"),
        ({"encoder": ["down", "first"]}, "an image of 4 channels .*; is down the first encoder level, and in_channels"),
        ({"encoder": ["down", "first"], "in_channels": 2}, "another order: first, down, up, head"),
        ({"encoder": ["first.0", "first.1"]}, r"first\.1 gives 8 x 8 pixels for 8 x 8; each encoder level but"),
        ({"decoder": ["head"], "head": "up"}, "another order: first, down, up, head"),
        ({"decoder": ["up.up"]}, r"decoder block up\.up cannot be called with x and skip"),
        ({"decoder": []}, "2 encoder levels and 0 decoder blocks"),
        ({"decoder": ["up", "up"]}, "2 encoder levels and 2 decoder blocks"),
        ({"decoder": [("up",)]}, "a name, a pair of names, or a function and names"),
        ({"in_channels": 7}, "Tiny does not run on an image of 7 channels and 8 x 8 pixels"),
    ],
)
def test_stages_that_do_not_fit(change, said):
    with pytest.raises(UsageError, match=said) as caught:
        adapt(Tiny(), **{**FITS, **change})
    assert "\n" not in str(caught.value)


def test_a_stage_that_does_not_double_the_size():
    module = Tiny()
    module.up = Same()
    with pytest.raises(UsageError, match="up gives 4 x 4 pixels for 4 x 4; each decoder block doubles them"):
        adapt(module, **FITS)


class Same(nn.Module):
    """Shrinks the skip instead of enlarging x."""

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return x[:, :4] + skip[..., ::2, ::2]


def test_a_list_of_modules_is_no_stage():
    with pytest.raises(UsageError, match=r"does not call its decoder\.stages .* perhaps decoder\.stages\.0"):
        adapt(PlainConvUNet(width=2), **{**PLAIN, "decoder": [*PLAIN["decoder"][:3], "decoder.stages"]})


def test_weights_have_the_modules_names_once(tmp_path):
    """safetensors refuses a tensor under two names, which `Tiny` has for its first convolution."""
    network = adapt(Tiny(), **{**FITS, "encoder": ["again", "down"]})
    module = unwrap(network)
    assert network.submodule_names(0) == ("module.first", "module.down")
    once = {name for name in module.state_dict() if not name.startswith("again.")}
    assert {name.removeprefix("module.") for name in network.state_dict()} == once
    write_weights(tmp_path / "w.safetensors", network.state_dict())
    other = adapt(Tiny(), **FITS)
    other.load_state_dict(read_weights(tmp_path / "w.safetensors"))
    assert all(map(torch.equal, unwrap(other).state_dict().values(), module.state_dict().values()))


def test_a_copy_has_its_names_once_too():
    copied = copy.deepcopy(copy.deepcopy(adapt(Tiny(), **FITS)))
    copied.load_state_dict(copied.state_dict())
    assert not any("again" in name for name in nn.ModuleDict({"backbone": copied}).state_dict())


def test_unwrap():
    module = PlainConvUNet(width=2)
    assert unwrap(adapt(module, **PLAIN)) is module
    with pytest.raises(UsageError, match=r"PlainConvUNet was not made by jcl\.backbones\.adapt"):
        unwrap(module)


def test_it_is_the_same_as_the_backbone_of_that_layout():
    torch.manual_seed(0)
    network = plain(width=2).eval()
    own, x = unwrap(network), torch.rand(2, 1, 50, 30)
    assert torch.equal(network(x), own(x))
    for blocks in range(5):
        assert torch.equal(network.decode(network.encode(x), blocks), own.decode(own.encode(x), blocks))
        assert network.decoder_channels(blocks) == own.decoder_channels(blocks)
        assert set(network.submodule_names(blocks)) >= {
            f"module.{part}" for part in own.submodule_names(blocks) if part != "encoder"
        }
