"""Transfer: what is loaded, what is refused, and what is said."""

import pytest
import torch
from torch import nn

from jcl.backbones import Backbone
from jcl.backbones._transfer import pretrained_modules_of, transfer
from jcl.backbones.plain_conv_unet import PlainConvUNet
from jcl.backbones.unet import UNet
from jcl.errors import DataError, UsageError

PARTS = ("encoder", "decoder.0", "decoder.1")
FIRST = "encoder.blocks.0.0.weight"


def trained(**settings) -> dict[str, torch.Tensor]:
    """All tensors differ from those of a fresh network, the statistics and counts of normalisations too."""
    torch.manual_seed(1)
    weights = UNet(**{"width": 4, **settings}).state_dict()
    return {name: t + 1 + torch.rand(t.shape) if t.ndim else torch.tensor(7) for name, t in weights.items()}


def refused(network: nn.Module, weights: dict[str, torch.Tensor], parts=PARTS) -> str:
    """What is said; it is one line, and the network is as it was."""
    before = {name: t.clone() for name, t in network.state_dict().items()}
    with pytest.raises(DataError) as caught:
        transfer(network, weights, parts)
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_parts_are_loaded_and_nothing_else():
    network, weights = UNet(width=4, classes=5), trained(classes=2)
    before = {name: t.clone() for name, t in network.state_dict().items()}
    report = transfer(network, weights, PARTS)
    for name, tensor in network.state_dict().items():
        chosen = name.startswith(tuple(f"{part}." for part in PARTS))
        assert torch.equal(tensor, weights[name] if chosen else before[name]), name
        assert (name in report.loaded) == chosen
        assert (name in report.fresh) != chosen


def test_report_counts_by_hand():
    network = UNet(width=4, classes=5)
    report = transfer(network, trained(), PARTS)
    parts = tuple(f"{part}." for part in PARTS)
    sizes = {name: p.numel() for name, p in network.named_parameters()}
    share = sum(size for name, size in sizes.items() if name.startswith(parts)) / sum(sizes.values())
    assert report.share == pytest.approx(share)
    assert f"{share:.1%}" in str(report)
    assert str(report).endswith("fresh: decoder.2, decoder.3, head")


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "network.", "model.", "backbone.", "model.backbone."]
)
def test_wrappers_prefixes_are_taken_off(prefix):
    weights = {prefix + name: tensor for name, tensor in trained().items()}
    network = UNet(width=4)
    assert transfer(network, weights, PARTS).share > 0.9
    assert torch.equal(network.state_dict()[FIRST], weights[prefix + FIRST])


def test_a_network_whose_own_names_begin_as_wrappers_do():
    """Its own names come first; what an adapted network puts before them may be there or not."""

    class Wrapped(Backbone):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.ModuleDict({"model": nn.Linear(2, 2)})

    for prefix in ("module.", "", "module.module.", "network."):
        network = Wrapped()
        weights = {f"{prefix}model.weight": torch.ones(2, 2), f"{prefix}model.bias": torch.ones(2)}
        assert transfer(network, weights, ["module.model"]).share == 1
        assert network.module["model"].weight.eq(1).all()


def test_what_the_network_has_no_place_for_is_told():
    report = transfer(UNet(width=4), {**trained(), "projector.weight": torch.ones(3)}, PARTS)
    assert report.unknown == ("projector.weight",)
    assert "not used: 1 tensors, projector.weight for one" in str(report)


@pytest.mark.parametrize("adapt", ["mean", "repeat"])
@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (2, 3), (4, 2)])
def test_other_number_of_channels_keeps_the_first_layers_output(adapt, before, after):
    """On a scan that is the same in all channels; with `repeat` only if all old channels are taken equally often."""
    network, weights = UNet(width=4, in_channels=after), trained(in_channels=before)
    report = transfer(network, weights, PARTS, adapt=adapt)
    assert report.adapted == (FIRST,)
    assert f"1 adapted to the number of channels by {adapt}" in str(report)
    old = UNet(width=4, in_channels=before)
    old.load_state_dict(weights)
    x = torch.rand(1, 1, 16, 16)
    ours, theirs = (net.encoder.blocks[0][0](x.expand(-1, net.in_channels, -1, -1)) for net in (network, old))
    same = torch.allclose(ours, theirs, atol=1e-5)
    assert same == (adapt == "mean" or after % before == 0)


def test_repeat_by_hand():
    network, weights = UNet(width=4, in_channels=3), trained(in_channels=2)
    transfer(network, weights, PARTS, adapt="repeat")
    new, old = network.state_dict()[FIRST], weights[FIRST]
    torch.testing.assert_close(new, torch.stack([old[:, 0], old[:, 1], old[:, 0]], dim=1) * (2 / 3))


def test_no_such_adaptation():
    with pytest.raises(UsageError, match="one of mean, repeat"):
        transfer(UNet(width=4), trained(), PARTS, adapt="median")


class Residual(Backbone):
    """The image goes into a convolution and into a shortcut beside it; the next layer has as many channels."""

    stride, feature_channels = 2, (3, 3)

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.next = nn.Conv2d(3, 3, 2, stride=2)
        self.shortcut = nn.Conv2d(in_channels, 3, 1)
        self.first = nn.Conv2d(in_channels, 3, 3, padding=1)

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.first(x) + self.shortcut(x)
        return [x, self.next(x)]


def test_every_layer_that_sees_the_image_is_adapted():
    report = transfer(Residual(1), Residual(3).state_dict(), ["first", "shortcut", "next"])
    assert set(report.adapted) == {"first.weight", "shortcut.weight"}


def test_other_channels_behind_the_first_layer():
    weights = Residual(3).state_dict()
    weights["next.weight"] = torch.zeros(3, 1, 2, 2)
    said = refused(Residual(3), weights, ["first", "shortcut", "next"])
    assert "next.weight has shape (3, 1, 2, 2) in the pre-trained weights, (3, 3, 2, 2) in the network (1 of 6" in said
    assert "only the layer that sees the image" in said


def test_other_kernel_of_the_first_layer():
    weights = trained()
    weights[FIRST] = torch.zeros(4, 1, 5, 5)
    assert "take the same backbone, width and depth" in refused(UNet(width=4), weights)


def test_other_width():
    said = refused(UNet(width=8), trained())
    assert said.startswith(f"another width: {FIRST} has shape (4, 1, 3, 3) in the pre-trained weights, (8, 1, 3, 3)")
    assert said.endswith("give --width as in the pre-training")


def test_another_depth():
    deeper = {**trained(), "encoder.blocks.5.0.weight": torch.ones(2)}
    assert "no encoder.blocks.5.0.weight, which is in the pre-trained weights" in refused(UNet(width=4), deeper)
    shallower = {name: t for name, t in trained().items() if not name.startswith("encoder.blocks.4")}
    said = refused(UNet(width=4), shallower)
    assert "lack encoder.blocks.4.0.weight (12 of 88 tensors); they come from a network of less depth" in said
    other = {name.replace("blocks.4", "blocks.9"): t for name, t in trained().items()}
    assert "lack encoder.blocks.4.0.weight and have encoder.blocks.9.0.weight" in refused(UNet(width=4), other)


def test_missing_tensor():
    weights = trained()
    del weights["decoder.1.up.weight"]
    assert "lack decoder.1.up.weight (1 of " in refused(UNet(width=4), weights)


def test_nothing_that_fits_shows_names_of_both():
    said = refused(UNet(width=4), {f"student.{name}": t for name, t in trained().items()})
    assert "none of the pre-trained weights" in said
    assert f"Their names are as student.{FIRST}, student.encoder.blocks.0.1.weight" in said
    assert f"its are as {FIRST}, encoder.blocks.0.1.weight" in said
    assert "none at all" in refused(UNet(width=4), {})


@pytest.mark.parametrize("blocks", range(5))
def test_parts_of_weights_of_unknown_origin(blocks):
    network = PlainConvUNet(width=2)
    parts = tuple(f"{part}." for part in network.submodule_names(blocks))
    weights = {f"module.{name}": t for name, t in network.state_dict().items() if name.startswith(parts)}
    assert pretrained_modules_of(network, weights) == network.submodule_names(blocks)
