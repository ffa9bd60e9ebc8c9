"""The layout of nnU-Net's network, against what the published class says (see make_plain_conv_unet.py)."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from jcl.backbones._transfer import transfer
from jcl.backbones.plain_conv_unet import PlainConvUNet

CONTENT = json.loads((Path(__file__).parents[1] / "oracles" / "plain_conv_unet.json").read_text())
ALIASES = (("decoder.encoder.", "encoder."), ("all_modules.0.", "conv."), ("all_modules.1.", "norm."))
DEEP_SUPERVISION = ("decoder.seg_layers.0.", "decoder.seg_layers.1.", "decoder.seg_layers.2.")


def wave(shape: tuple[int, ...], phase: int) -> Tensor:
    """The formula of make_plain_conv_unet.py."""
    values = torch.sin(torch.arange(1, math.prod(shape) + 1, dtype=torch.float64) + phase)
    return (values / math.sqrt(math.prod(shape[1:]))).reshape(shape)


def first_name(name: str) -> str:
    for alias, plain in ALIASES:
        name = name.replace(alias, plain)
    return name


@pytest.fixture
def weights() -> dict[str, Tensor]:
    """All tensors of the published network, with the names that it has for the same one."""
    phases = {name: phase for phase, name in enumerate(sorted(CONTENT["parameters"]))}
    return {name: wave(tuple(shape), phases[first_name(name)]) for name, shape in CONTENT["state"].items()}


@pytest.fixture
def network() -> PlainConvUNet:
    return PlainConvUNet(in_channels=2, classes=3, width=2).double()


def test_names_and_shapes(network):
    published = {name: shape for name, shape in CONTENT["state"].items() if name in CONTENT["parameters"]}
    expected = {name: shape for name, shape in published.items() if not name.startswith(DEEP_SUPERVISION)}
    assert {name: list(tensor.shape) for name, tensor in network.state_dict().items()} == expected


def test_every_other_name_there_is_a_second_one(network):
    """So that all that nnU-Net asks for can be written from what is here: it draws the seg_layers anew."""
    others = CONTENT["state"].keys() - network.state_dict().keys()
    assert {name for name in others if first_name(name) not in network.state_dict()} == {
        f"{layer}{kind}" for layer in DEEP_SUPERVISION for kind in ("weight", "bias")
    }


def test_same_weights_same_output(network, weights):
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    logits = network(wave((2, 2, 32, 48), phase=0))[:, :, ::4, ::4]
    torch.testing.assert_close(logits, torch.tensor(CONTENT["logits"], dtype=torch.float64), atol=1e-10, rtol=1e-10)


def test_the_published_networks_weights_are_taken(network, weights):
    report = transfer(network, weights, network.submodule_names(4))
    assert set(report.fresh) == {"decoder.seg_layers.3.weight", "decoder.seg_layers.3.bias"}
    assert torch.equal(network.encoder.stages[4][0].convs[1].norm.bias, weights["encoder.stages.4.0.convs.1.norm.bias"])


def test_width_32_is_the_planners_default():
    assert PlainConvUNet().feature_channels == (32, 64, 128, 256, 512)


def test_weights_are_drawn_after_he():
    torch.manual_seed(0)
    network = PlainConvUNet()
    for module in (network.encoder.stages[3][0].convs[1].conv, network.decoder.stages[0].convs[0].conv):
        fan_in = 9 * module.in_channels
        assert module.weight.std().item() == pytest.approx(math.sqrt(2 / (1 + 0.01**2) / fan_in), rel=0.01)
        assert not module.bias.any()


def test_a_bottleneck_of_one_value_is_that_of_the_image_beside_nothing(network):
    """Instance normalisation of one value would give the same for every image."""
    x = torch.rand(2, 2, 16, 16, dtype=torch.float64)
    for level, wide in zip(network.encode(x), network.encode(nn.functional.pad(x, (0, 16))), strict=True):
        assert torch.equal(level, wide[..., : wide.shape[-1] // 2])
    features = network.encode(x)
    assert features[-1].shape[2:] == (1, 1)
    assert not torch.allclose(features[-1][0], features[-1][1])
    assert network(x).shape == (2, 3, 16, 16)


def test_wrong_number_of_blocks(network):
    with pytest.raises(ValueError, match="0 to 4"):
        network.decode(network.encode(torch.rand(2, 2, 32, 32, dtype=torch.float64)), blocks=5)
