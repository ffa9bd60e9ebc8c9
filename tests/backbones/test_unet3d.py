"""The U-Net in three dimensions against numbers worked out by hand, and against the U-Net where they are the same."""

import json
from pathlib import Path

import pytest
import torch

from jcl import backbones
from jcl.backbones._transfer import transfer
from jcl.backbones.unet import UNet
from jcl.backbones.unet3d import UNet3D
from jcl.errors import DataError

THIN = ((1, 2, 2),) * 4


def parameters_by_hand(width: int, in_channels: int, classes: int, strides: tuple[tuple[int, int, int], ...]) -> int:
    """Two 3x3x3 convolutions without bias and two normalisations a level; transposed ones with bias; a 1x1x1 head."""
    widths = [width * 2**level for level in range(len(strides) + 1)]
    units = lambda before, after: 27 * before * after + 2 * after + 27 * after * after + 2 * after  # noqa: E731
    encoder = sum(units(before, after) for before, after in zip([in_channels, *widths], widths, strict=False))
    ups = [s[0] * s[1] * s[2] * 2 * w * w + w for s, w in zip(strides, widths, strict=False)]
    return encoder + sum(ups) + sum(units(2 * w, w) for w in widths[:-1]) + width * classes + classes


@pytest.mark.parametrize(
    ("width", "in_channels", "classes", "strides"),
    [(8, 1, 4, ((2, 2, 2),) * 4), (4, 3, 2, ((1, 2, 2), (2, 2, 2))), (2, 1, 2, ((2, 1, 1), (2, 2, 2), (1, 2, 1)))],
)
def test_parameter_count(width, in_channels, classes, strides):
    net = UNet3D(in_channels=in_channels, classes=classes, width=width, strides=strides)
    assert sum(p.numel() for p in net.parameters()) == parameters_by_hand(width, in_channels, classes, strides)


def test_shapes_of_every_level_follow_the_strides():
    net = UNet3D(width=2, strides=((1, 2, 2), (2, 2, 1)))
    features = net.encode(torch.zeros(2, 1, 6, 8, 10))
    assert [tuple(f.shape) for f in features] == [(2, 2, 6, 8, 10), (2, 4, 6, 4, 5), (2, 8, 3, 2, 5)]
    shapes = [tuple(net.decode(features, blocks=k).shape) for k in range(3)]
    assert shapes == [(2, 8, 3, 2, 5), (2, 4, 6, 4, 5), (2, 2, 6, 8, 10)]
    assert net.stride == 4


def test_one_slice_is_what_the_unet_makes_of_it():
    """Of kernels of three slices only the middle one sees a single slice."""
    torch.manual_seed(0)
    flat, net = UNet(width=4, classes=3).eval(), UNet3D(width=4, classes=3, strides=THIN).eval()
    given = flat.state_dict()
    with torch.no_grad():
        for own, theirs in zip(net.state_dict().values(), given.values(), strict=True):
            if own.ndim == 5 and own.shape[2] == 3:
                own.normal_()
                own[:, :, 1] = theirs
            else:
                own.copy_(theirs.view_as(own))
    x = torch.rand(2, 1, 40, 24)
    assert torch.allclose(net(x[:, :, None])[:, :, 0], flat(x), atol=1e-5)


def test_a_block_behind_another_is_seen_in_order():
    """It is no convolution of slices by themselves: what lies two slices away counts, in its order."""
    torch.manual_seed(0)
    net = UNet3D(width=2, strides=THIN).eval()
    x = torch.rand(1, 1, 5, 16, 16)
    assert not torch.allclose(net(x), net(x.flip(2)).flip(2), atol=1e-4)


def test_another_number_of_channels_is_adapted():
    torch.manual_seed(0)
    one, two = (UNet3D(in_channels=c, width=2, strides=THIN[:2]).eval() for c in (1, 2))
    report = transfer(two, one.state_dict(), two.submodule_names(2))
    assert report.adapted == ("encoder.blocks.0.0.weight",)
    x = torch.rand(1, 1, 3, 8, 8)
    assert torch.allclose(two.encode(x.expand(1, 2, 3, 8, 8))[-1], one.encode(x)[-1], atol=1e-5)


def test_it_is_one_of_three_dimensions():
    assert backbones.dimensions("unet3d") == 3
    assert backbones.available(3) == ["plain_conv_unet3d", "residual_encoder_unet3d", "unet3d"]
    assert not {*backbones.available(2)} & {*backbones.available(3)}
    assert sorted([*backbones.available(2), *backbones.available(3)]) == backbones.available()
    assert backbones.dimensions("mine:Network") == 2
    assert backbones.default_width("unet3d") == 32


SETTINGS = {"name": "unet3d", "in_channels": 1, "classes": 2, "width": 2}


def test_a_file_that_describes_it():
    described = json.loads(json.dumps({**SETTINGS, "strides": [[1, 2, 2], [2, 2, 2]]}))
    net = backbones.rebuild(described, Path("run.json"))
    assert net.strides == ((1, 2, 2), (2, 2, 2))
    again = backbones.restore(described, Path("run.json"), net.state_dict())
    assert all(map(torch.equal, net.state_dict().values(), again.state_dict().values()))


@pytest.mark.parametrize(
    "strides", [[], "2", [[2, 2]], [[3, 2, 2]], [[0, 2, 2]], [[2.0, 2, 2]], [[2, 2, True]], [[2, 2, 2]] * 9, 4]
)
def test_a_file_with_strides_that_cannot_be_meant(strides):
    with pytest.raises(DataError, match=r"run.json: strides of its network is"):
        backbones.rebuild({**SETTINGS, "strides": strides}, Path("run.json"))


def test_a_file_with_other_strides_than_its_weights():
    net = UNet3D(width=2, strides=THIN[:2])
    with pytest.raises(DataError, match="its network is not that of the weights"):
        backbones.restore({**SETTINGS, "strides": [[2, 2, 2]] * 2}, Path("run.json"), net.state_dict())
