"""The U-Net against numbers worked out by hand from the paper's appendix."""

import pytest
import torch
from torch.nn import functional as F

from jcl.backbones import extend
from jcl.backbones.unet import UNet


def parameters_by_hand(width: int, in_channels: int, classes: int) -> int:
    """Two 3x3 convolutions without bias and two batch normalisations a block; transposed 2x2 with bias; a 1x1 head."""
    widths = [width, 2 * width, 4 * width, 8 * width, 16 * width]
    units = lambda before, after: 9 * before * after + 2 * after + 9 * after * after + 2 * after  # noqa: E731
    encoder = sum(units(before, after) for before, after in zip([in_channels, *widths], widths, strict=False))
    decoder = sum(4 * w * 2 * w + w + units(2 * w, w) for w in widths[:-1])
    return encoder + decoder + width * classes + classes


@pytest.mark.parametrize(("width", "in_channels", "classes"), [(32, 1, 8), (8, 3, 2)])
def test_parameter_count(width, in_channels, classes):
    net = UNet(in_channels=in_channels, classes=classes, width=width)
    assert sum(p.numel() for p in net.parameters()) == parameters_by_hand(width, in_channels, classes)


def test_shapes_of_every_level():
    net = UNet(width=4)
    x = torch.zeros(2, 1, 64, 96)
    features = net.encode(x)
    assert [tuple(f.shape) for f in features] == [
        (2, 4, 64, 96),
        (2, 8, 32, 48),
        (2, 16, 16, 24),
        (2, 32, 8, 12),
        (2, 64, 4, 6),
    ]
    shapes = [tuple(net.decode(features, blocks=k).shape) for k in range(5)]
    assert shapes == [(2, 64, 4, 6), (2, 32, 8, 12), (2, 16, 16, 24), (2, 8, 32, 48), (2, 4, 64, 96)]
    assert [net.decoder_channels(k) for k in range(5)] == [64, 32, 16, 8, 4]


@pytest.mark.parametrize("size", [(64, 64), (50, 70), (1, 17)])
def test_any_size_comes_back(size):
    net = UNet(width=2, classes=3).eval()
    assert net(torch.rand(1, 1, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize("blocks", range(5))
def test_partial_decoder_builds_nothing_of_the_others(blocks):
    net = UNet(width=2)
    net.decode(net.encode(torch.rand(2, 1, 32, 32)), blocks=blocks).sum().backward()
    trained = {name for name, p in net.named_parameters() if p.grad is not None}
    parts = tuple(f"{part}." for part in net.submodule_names(blocks))
    assert trained == {name for name, _ in net.named_parameters() if name.startswith(parts)}


def test_every_parameter_gets_a_gradient():
    net = UNet(width=2, classes=3)
    net(torch.rand(2, 1, 40, 40)).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


def test_wrong_number_of_blocks():
    net = UNet(width=2)
    with pytest.raises(ValueError, match="0 to 4"):
        net.decode(net.encode(torch.rand(2, 1, 32, 32)), blocks=5)


def test_extend_repeats_the_last_pixels():
    x = torch.rand(2, 3, 4, 5)
    assert torch.equal(extend(x, (6, 5)), F.pad(x, (0, 0, 0, 2), mode="replicate"))
    assert torch.equal(extend(x, (5, 8)), F.pad(x, (0, 3, 0, 1), mode="replicate"))
    assert extend(x, (4, 2)) is x
