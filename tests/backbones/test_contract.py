"""What every backbone has to do, for each that is there."""

import math
from typing import Any

import pytest
import torch

from jcl import backbones
from jcl.backbones._surgery import copy_submodules
from support.awake import awake

STRIDES = ((1, 2, 2), (2, 2, 2))
"""Of a network of three dimensions here: two levels, the first of which leaves the slices as they are."""


def settings_of(name: str, **settings: int) -> dict[str, Any]:
    strides = {"strides": STRIDES} if backbones.dimensions(name) == 3 else {}
    return {"in_channels": 1, "classes": 3, "width": 4, **strides, **settings}


def make(name: str, **settings: int) -> torch.nn.Module:
    torch.manual_seed(0)
    return awake(backbones.load(name)(**settings_of(name, **settings)))


def size_of(net: torch.nn.Module, rows: int, columns: int) -> tuple[int, ...]:
    """These rows and columns; in three dimensions a quarter of them, in three slices."""
    return (rows, columns) if net.dimensions == 2 else (3, max(1, rows // 4), max(1, columns // 4))


def sides_of(net: torch.nn.Module, times: int = 1) -> tuple[int, ...]:
    """The smallest sides that need no padding, or some times them."""
    sides = (net.stride, net.stride) if net.dimensions == 2 else tuple(map(math.prod, zip(*STRIDES, strict=True)))
    return tuple(times * side for side in sides)


def grown(net: torch.nn.Module, side: int, blocks: int) -> tuple[int, ...]:
    """Sides behind so many decoder blocks, where the bottleneck has `side` each."""
    levels = STRIDES[len(STRIDES) - blocks :] if net.dimensions == 3 else [(2, 2)] * blocks
    return tuple(side * math.prod(level[axis] for level in levels) for axis in range(net.dimensions))


@pytest.fixture(params=backbones.available())
def name(request):
    return request.param


def trained_by(net: torch.nn.Module, output: torch.Tensor) -> set[str]:
    net.zero_grad()
    (output * torch.randn(output.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    return {key for key, p in net.named_parameters() if p.grad is not None and p.grad.any()}


def below(net: torch.nn.Module, parts: tuple[str, ...]) -> set[str]:
    for part in parts:
        net.get_submodule(part)
    return {key for key, _ in net.named_parameters() if key.startswith(tuple(f"{part}." for part in parts))}


def test_features_and_decoder_have_the_channels_and_sizes_they_say(name):
    net = make(name)
    features = net.encode(torch.rand(2, 1, *sides_of(net, 2)))
    assert [f.shape[1] for f in features] == list(net.feature_channels)
    assert features[-1].shape[2:] == grown(net, 2, 0)
    for blocks in range(net.blocks + 1):
        decoded = net.decode(features, blocks=blocks)
        assert tuple(decoded.shape) == (2, net.decoder_channels(blocks), *grown(net, 2, blocks))
    assert torch.equal(net.decode(features, blocks=0), features[-1])


def test_decoding_leaves_the_features_as_they_were(name):
    net = make(name).eval()
    features = net.encode(torch.rand(2, 1, *sides_of(net)))
    kept = [f.clone() for f in features]
    net.decode(features)
    assert all(map(torch.equal, features, kept))


@pytest.mark.parametrize("size", [(64, 64), (50, 70), (1, 17)])
def test_any_size_comes_back(name, size):
    net = make(name).eval()
    size = size_of(net, *size)
    assert net(torch.rand(1, 1, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize("size", [(64, 64), (45, 70)])
def test_every_parameter_gets_a_gradient(name, size):
    net = make(name)
    logits = net(torch.rand(2, 1, *size_of(net, *size)))
    assert trained_by(net, logits) == {key for key, _ in net.named_parameters()}


def test_a_partial_decoder_builds_nothing_of_the_others(name):
    net = make(name)
    x = torch.rand(3, 1, *sides_of(net, 2))
    for blocks in range(net.blocks + 1):
        assert trained_by(net, net.decode(net.encode(x), blocks=blocks)) == below(net, net.submodule_names(blocks)), (
            blocks
        )


def test_encoding_runs_on_a_copy_of_its_parts_alone(name):
    net = make(name).eval()
    x = torch.rand(2, 1, *sides_of(net))
    copied = copy_submodules(net, net.submodule_names(0))
    assert all(map(torch.equal, net.encode(x), copied.encode(x)))


def test_the_same_weights_segment_the_same(name):
    net, fresh = make(name).eval(), backbones.load(name)(**settings_of(name)).eval()
    fresh.load_state_dict(net.state_dict())
    x = torch.rand(2, 1, *sides_of(net))
    assert torch.equal(fresh(x), net(x))


def test_all_but_a_small_head_can_be_pre_trained(name):
    net = make(name)
    rest = {key for key, _ in net.named_parameters()} - below(net, net.submodule_names(net.blocks))
    assert rest
    assert sum(net.get_parameter(key).numel() for key in rest) < 0.05 * sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("in_channels", "classes", "width"), [(3, 2, 4), (2, 5, 8)])
def test_any_channels_classes_and_width(name, in_channels, classes, width):
    net = make(name, in_channels=in_channels, classes=classes, width=width)
    assert net.in_channels == in_channels
    size = size_of(net, 32, 32)
    assert net(torch.rand(2, in_channels, *size)).shape == (2, classes, *size)


def test_channels_grow_with_the_width(name):
    narrow, wide = make(name, width=4), make(name, width=8)
    assert [2 * c for c in narrow.feature_channels] == list(wide.feature_channels)


def test_a_slice_does_not_depend_on_the_others_of_its_batch(name):
    net = make(name).eval().double()  # instance normalisation of four pixels makes much of float32's rounding
    x = torch.rand(3, 1, *size_of(net, 64, 64), dtype=torch.float64)
    assert torch.allclose(net(x)[1:2], net(x[1:2]), atol=1e-10)


def test_finite_in_bfloat16(name):
    net = make(name)
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(torch.rand(2, 1, *size_of(net, 64, 64)))
    logits.float().square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


def test_too_many_blocks(name):
    net = make(name)
    with pytest.raises(ValueError, match=f"0 to {net.blocks}"):
        net.decode(net.encode(torch.rand(2, 1, *sides_of(net))), blocks=net.blocks + 1)


def test_logits_of_features_are_those_of_the_image(name):
    net = make(name).eval()
    size = size_of(net, 40, 72)
    x = torch.rand(2, 1, *size)
    assert torch.equal(net.logits(net.encode(x), x), net(x))
    assert net(x).shape == (2, 3, *size)
