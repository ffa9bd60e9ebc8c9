"""The layouts of nnU-Net's other networks, against what the published classes say (see make_nnunet_networks.py)."""

import hashlib
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from jcl import backbones, methods
from jcl.backbones._nnunet import ResidualBlock, widths
from jcl.backbones._transfer import transfer
from jcl.export.nnunet import _names_of
from support.awake import awake

CONTENT = json.loads((Path(__file__).parents[1] / "oracles" / "nnunet_networks.json").read_text())
NAMES = [name for name in CONTENT if name != "made by"]
STRIDES = ((1, 2, 2), (2, 2, 2))


def wave(shape: tuple[int, ...], phase: int) -> Tensor:
    """The formula of make_plain_conv_unet.py."""
    values = torch.sin(torch.arange(1, math.prod(shape) + 1, dtype=torch.float64) + phase)
    return (values / math.sqrt(math.prod(shape[1:]))).reshape(shape)


def make(name: str, **settings) -> torch.nn.Module:
    torch.manual_seed(0)
    deep = {"strides": STRIDES} if backbones.dimensions(name) == 3 else {}
    return backbones.load(name)(**{"in_channels": 2, "classes": 3, "width": 2, **deep, **settings})


@pytest.mark.parametrize("name", NAMES)
def test_names_shapes_and_second_names(name):
    """Of the heads for deep supervision nothing is here: nnU-Net draws them anew."""
    network, published = make(name), CONTENT[name]["parameters"]
    heads = {key: shape for key, shape in published.items() if ".seg_layers." in key}
    own = {key: list(tensor.shape) for key, tensor in network.state_dict().items()}
    last = f"decoder.seg_layers.{network.blocks - 1}."
    assert own == {key: shape for key, shape in published.items() if key not in heads or key.startswith(last)}
    state = {each: shape for key, shape in {**own, **heads}.items() for each, _ in _names_of(key, torch.zeros(shape))}
    assert hashlib.sha256(json.dumps(dict(sorted(state.items()))).encode()).hexdigest() == CONTENT[name]["state"]


@pytest.mark.parametrize("name", NAMES)
def test_same_weights_same_output(name):
    network, published = make(name).double(), CONTENT[name]
    phases = {key: phase for phase, key in enumerate(sorted(published["parameters"]))}
    network.load_state_dict({k: wave(tuple(t.shape), phases[k]) for k, t in network.state_dict().items()})
    logits = network(wave(tuple(published["image"]), phase=0))[..., ::4, ::4]
    torch.testing.assert_close(logits, torch.tensor(published["logits"], dtype=torch.float64), atol=1e-9, rtol=1e-9)


def test_channels_are_the_planners():
    assert widths(32, 6, 3) == (32, 64, 128, 256, 320, 320)
    assert backbones.load("residual_encoder_unet")().feature_channels == (32, 64, 128, 256, 512)


@pytest.mark.parametrize("name", ["residual_encoder_unet", "residual_encoder_unet3d"])
def test_a_new_network_is_drawn_as_nnunet_draws_it(name):
    network = make(name, width=16)
    blocks = [module for module in network.modules() if isinstance(module, ResidualBlock)]
    assert [len(level.blocks) for level in network.encoder.stages] == [1, 3, 4, 6, 6][: network.blocks + 1]
    assert not any(block.conv2.norm.weight.any() or block.conv2.norm.bias.any() for block in blocks)
    conv = network.encoder.stages[2].blocks[1].conv1.conv
    fan_in = conv.weight[0].numel()
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (1 + 0.01**2) / fan_in), rel=0.02)
    assert not conv.bias.any()


@pytest.mark.parametrize("name", NAMES)
def test_a_bottleneck_of_one_value_is_that_of_the_image_beside_nothing(name):
    network = awake(make(name)).double()
    smallest = (16, 16) if network.dimensions == 2 else (2, 4, 4)
    x = torch.rand(2, 2, *smallest, dtype=torch.float64)
    wide = network.encode(torch.nn.functional.pad(x, (0, smallest[-1])))
    features = network.encode(x)
    assert tuple(features[-1].shape[2:]) == (1,) * network.dimensions
    for level, of_wide in zip(features, wide, strict=True):
        assert torch.allclose(level, of_wide[..., : of_wide.shape[-1] // 2])
    assert not torch.allclose(features[-1][0], features[-1][1])
    assert network(x).shape == (2, 3, *smallest)


@pytest.mark.parametrize("name", NAMES)
def test_its_own_weights_go_on_to_fine_tuning(name):
    network, fresh = make(name), make(name, classes=5)
    report = transfer(fresh, network.state_dict(), network.submodule_names(network.blocks))
    last = f"decoder.seg_layers.{network.blocks - 1}"
    assert set(report.fresh) == {f"{last}.weight", f"{last}.bias"}
    assert not report.adapted


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("3d")])
def test_jcl_pre_trains_blocks_of_any_size(name):
    from jcl.data.blocks import BlockBatch

    method = methods.build("jcl", awake(make(name, in_channels=1)), {"projection": 4})
    batch = BlockBatch(
        images=torch.rand(4, 1, 3, 8, 9), positions=torch.tensor([0.1, 0.15, 0.5, 0.9]), volumes=torch.arange(4)
    )
    losses = method(method.views(batch, torch.Generator().manual_seed(0)), batch)
    losses["loss"].backward()
    assert all(torch.isfinite(value) for value in losses.values())
    trained = {key for key, p in method.backbone.named_parameters() if p.grad is not None and p.grad.any()}
    parts = tuple(f"{part}." for part in method.pretrained_modules)
    assert trained == {key for key, _ in method.backbone.named_parameters() if key.startswith(parts)}
