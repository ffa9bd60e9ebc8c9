"""U-KAN against the count of the authors' program, and against its steps written out."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from jcl.backbones._tokenised import KANBlock
from jcl.backbones.ukan import UKAN
from jcl.backbones.ukan_s import UKANS


def parameters_of_the_program(dims: tuple[int, int, int], in_channels: int, classes: int) -> int:
    """By hand from CUHK-AIM-Group/U-KAN, Seg_UKAN/archs.py (`dims`: embed_dims), where every convolution has a bias."""
    a, b, c = dims
    conv = lambda before, after: 9 * before * after + after  # noqa: E731
    units = lambda before, hidden, after: conv(before, hidden) + 2 * hidden + conv(hidden, after) + 2 * after  # noqa: E731
    patches = lambda before, after: conv(before, after) + 2 * after  # noqa: E731
    block = lambda d: 2 * d + 3 * (10 * d * d + 9 * d + d + 2 * d)  # noqa: E731
    encoder = units(in_channels, a // 8, a // 8) + units(a // 8, a // 4, a // 4) + units(a // 4, a, a)
    encoder += patches(a, b) + block(b) + 2 * b + patches(b, c) + block(c) + 2 * c
    decoder = units(c, c, b) + block(b) + 2 * b + units(b, b, a) + block(a) + 2 * a
    decoder += units(a, a, a // 4) + units(a // 4, a // 4, a // 8) + units(a // 8, a // 8, a // 8)
    return encoder + decoder + a // 8 * classes + classes


@pytest.mark.parametrize(
    ("network", "width", "dims", "published"),
    [
        # S, M and L of the authors' program, which was run.
        (UKANS, 8, (64, 96, 128), 1_848_633),
        # The network of the paper: 6.35 M in tables of later papers (GroupKAN, arXiv:2511.05477), cut off, not rounded.
        (UKAN, 16, (128, 160, 256), 6_356_689),
        # The wider one, "25M parameters" in issue 32 of the authors' program.
        (UKAN, 32, (256, 320, 512), 25_359_265),
    ],
)
def test_parameter_count(network, width, dims, published):
    net = network(in_channels=3, classes=1, width=width)
    left_out = sum(m.num_features for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    ours = sum(p.numel() for p in net.parameters())
    assert ours + left_out == parameters_of_the_program(dims, in_channels=3, classes=1) == published


@pytest.mark.parametrize(("width", "in_channels", "classes"), [(4, 1, 8), (8, 2, 2)])
def test_parameter_count_of_other_settings(width, in_channels, classes):
    net = UKAN(in_channels=in_channels, classes=classes, width=width)
    left_out = sum(m.num_features for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    dims = (8 * width, 10 * width, 16 * width)
    count = sum(p.numel() for p in net.parameters()) + left_out
    assert count == parameters_of_the_program(dims, in_channels, classes)


def test_shapes_of_every_level():
    net = UKAN(width=4)
    features = net.encode(torch.zeros(2, 1, 64, 96))
    assert [tuple(f.shape) for f in features] == [
        (2, 4, 32, 48),
        (2, 8, 16, 24),
        (2, 32, 8, 12),
        (2, 40, 4, 6),
        (2, 64, 2, 3),
    ]
    shapes = [tuple(net.decode(features, blocks=k).shape) for k in range(6)]
    assert shapes == [
        (2, 64, 2, 3),
        (2, 40, 4, 6),
        (2, 32, 8, 12),
        (2, 8, 16, 24),
        (2, 4, 32, 48),
        (2, 4, 64, 96),
    ]
    assert [net.decoder_channels(k) for k in range(6)] == [64, 40, 32, 8, 4, 4]


def as_tokens(maps: torch.Tensor) -> torch.Tensor:
    return maps.flatten(2).transpose(1, 2)


def as_maps(tokens: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *like.shape[2:])


def normalised(maps: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
    """Of every token by hand, with the variance that is divided by the number of channels."""
    tokens = as_tokens(maps)
    centred = tokens - tokens.mean(2, keepdim=True)
    deviation = (centred.square().mean(2, keepdim=True) + norm.eps).sqrt()
    return as_maps(centred / deviation * norm.weight + norm.bias, maps)


def kan_block(block: KANBlock, x: torch.Tensor) -> torch.Tensor:
    norm, *units = block.units
    y = normalised(x, norm)
    for unit in units:
        convolution, batch_norm, _ = unit.mix
        y = as_maps(unit.kan(as_tokens(y)), y)
        y = F.relu(batch_norm(F.conv2d(y, convolution.weight, padding=1, groups=y.shape[1])))
    return x + y


def step_by_step(net: UKAN, x: torch.Tensor) -> torch.Tensor:
    """The order of the program's steps, its needless ReLUs among them."""
    skips = []
    for units, _ in net.encoder.stages[:3]:
        x = F.relu(F.max_pool2d(units(x), 2))
        skips.append(x)
    for patches, norm, block, last in net.encoder.stages[3:]:
        x = normalised(kan_block(block, normalised(patches(x), norm)), last)
        skips.append(x)
    for number, stage in enumerate(net.decoder):
        x = F.relu(F.interpolate(stage.units(x), scale_factor=(2, 2), mode="bilinear", align_corners=False))
        if number < 4:
            x = x + skips[3 - number]
        if number < 2:
            block, norm = stage.refine
            x = normalised(kan_block(block, x), norm)
    return net.head(x)


@pytest.mark.parametrize("network", [UKAN, UKANS])
def test_forward_takes_the_steps_of_the_program(network):
    torch.manual_seed(0)
    net = network(width=4, in_channels=2, classes=3).double()
    for name, p in net.named_parameters():
        if name.endswith((".bias", ".spline_weight")):
            nn.init.normal_(p)
    x = torch.rand(2, 2, 64, 96, dtype=torch.float64)
    torch.testing.assert_close(net(x), step_by_step(net, x), rtol=0, atol=1e-9)
