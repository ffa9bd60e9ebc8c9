"""UCTransNet against numbers worked out by hand from the authors' program, and the paper's equations in loops."""

import numpy as np
import pytest
import torch

from jcl.backbones.uctransnet import ChannelCrossAttention, UCTransNet

SKIPS = (1, 2, 4, 8)
"""Channels of the skips, in widths."""


def parameters_of_the_program(width: int, in_channels: int, classes: int) -> tuple[int, int, int]:
    """All parameters; the learned positions among them; the biases that a batch normalisation takes out again."""
    channels = [width * factor for factor in SKIPS]
    total = sum(channels)
    convs = [(in_channels, width)]
    for before, after in zip(channels, [*channels[1:], channels[-1]], strict=True):
        convs += [(before, after), (after, after)]
    for before, after in zip(reversed(channels), [channels[2], channels[1], width, width], strict=True):
        convs += [(2 * before, after), (after, after)]
    network = sum(9 * before * after + after + 2 * after for before, after in convs)
    cross_attention = sum(2 * (c * c + c) for c in channels)
    patches = sum(c * c * side**2 + c for c, side in zip(channels, (16, 8, 4, 2), strict=True))
    positions = 14 * 14 * total
    feed_forward = sum(c * 4 * c + 4 * c + 4 * c * c + c for c in channels)
    norms = 2 * 2 * total + 2 * total  # before attention and feed-forward of each level; of all levels together
    attention = 4 * sum(c * c for c in channels) + 4 * 2 * total**2 + sum(c * c for c in channels)
    layers = 4 * (norms + attention + feed_forward)
    reconstruction = sum(2 * c + c * c + c + 2 * c for c in channels)
    head = width * classes + classes
    parameters = network + cross_attention + patches + positions + layers + reconstruction + head
    return parameters, positions, sum(after for _, after in convs) + 2 * total


@pytest.mark.parametrize(("width", "in_channels", "classes"), [(64, 3, 1), (64, 1, 2), (8, 2, 5)])
def test_parameter_count(width, in_channels, classes):
    with torch.device("meta"):
        net = UCTransNet(in_channels=in_channels, classes=classes, width=width)
    parameters, _, idle = parameters_of_the_program(width, in_channels, classes)
    assert sum(p.numel() for p in net.parameters()) == parameters - idle


def test_the_count_by_hand_is_the_known_one():
    """66.24 M is told where parameters were counted by layer, as `thop` does: the positions belong to no layer."""
    parameters, positions, idle = parameters_of_the_program(64, 3, 1)
    assert parameters == 66_430_657
    assert round((parameters - positions) / 1e6, 2) == 66.24
    assert idle < 1e-4 * parameters


def test_shapes_at_the_image_size_of_the_paper():
    net = UCTransNet(in_channels=3, classes=1, width=8).eval()
    with torch.inference_mode():
        features = net.encode(torch.zeros(2, 3, 224, 224))
        decoded = [net.decode(features, blocks=k) for k in range(5)]
    shapes = [(2, 8, 224, 224), (2, 16, 112, 112), (2, 32, 56, 56), (2, 64, 28, 28), (2, 64, 14, 14)]
    assert [tuple(f.shape) for f in features] == shapes
    shapes = [(2, 64, 14, 14), (2, 32, 28, 28), (2, 16, 56, 56), (2, 8, 112, 112), (2, 8, 224, 224)]
    assert [tuple(d.shape) for d in decoded] == shapes


def test_channels_of_the_paper():
    with torch.device("meta"):
        net = UCTransNet()
    assert net.feature_channels == (64, 128, 256, 512, 512)
    assert [net.decoder_channels(k) for k in range(5)] == [512, 256, 128, 64, 64]
    assert net.transformer.layers[0].key.in_features == 960


def test_channel_cross_attention_is_that_of_the_equations():
    torch.manual_seed(0)
    attention = ChannelCrossAttention(3)
    skip, x = torch.rand(2, 3, 8, 6), torch.randn(2, 3, 4, 3)
    found = attention(skip, x).detach().numpy()
    of_skip, of_decoder = ([p.detach().double().numpy() for p in m.parameters()] for m in attention.children())
    for b in range(2):
        for c in range(3):
            mask = sum(
                sum(weight[c, d] * float(values[b, d].double().mean()) for d in range(3)) + bias[c]
                for (weight, bias), values in ((of_skip, skip), (of_decoder, x))
            )
            wanted = skip[b, c].double().numpy() / (1 + np.exp(-mask / 2))
            assert np.allclose(found[b, c], wanted, atol=1e-6)


@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(64, 64), (50, 70)])
def test_a_partial_decoder_gives_what_the_full_one_passes_on(blocks, size):
    torch.manual_seed(0)
    net = UCTransNet(width=4).eval()
    passed = []
    net.decoder[blocks - 1].register_forward_hook(lambda module, inputs, output: passed.append(output))
    features = net.encode(torch.rand(2, 1, *size))
    net.decode(features)
    assert torch.equal(net.decode(features, blocks=blocks), passed[0])


@pytest.mark.parametrize("blocks", range(5))
def test_just_the_parts_run(blocks):
    net = UCTransNet(width=4)
    ran = set()
    layers = {name: m for name, m in net.named_modules() if any(True for _ in m.parameters(recurse=False))}
    for name, layer in layers.items():
        layer.register_forward_hook(lambda module, inputs, output, name=name: ran.add(name))
    net.decode(net.encode(torch.rand(2, 1, 32, 32)), blocks=blocks)
    assert ran == {
        name for name in layers if f"{name}.".startswith(tuple(f"{part}." for part in net.submodule_names(blocks)))
    }


def test_what_the_parts_of_a_partial_decoder_leave_out():
    """The last layer and the reconstruction of the two shallow levels, and the last two decoder blocks."""
    net = UCTransNet(width=4)
    parts = tuple(f"{part}." for part in net.submodule_names(2))
    left_out = {name.rsplit(".", 1)[0] for name, _ in net.named_parameters() if not name.startswith(parts)}
    beginnings = {
        *(f"transformer.layers.3.levels.{level}" for level in (0, 1)),
        *(f"transformer.reconstructions.{level}" for level in (0, 1)),
        *(f"decoder.{block}" for block in (2, 3)),
        "head",
    }
    assert {next(b for b in beginnings if f"{name}.".startswith(f"{b}.")) for name in left_out} == beginnings
