"""The Attention U-Net against published figures and a gate worked out pixel by pixel."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from jcl.backbones.attention_unet import AttentionGate, AttentionUNet, DecoderBlock

PUBLISHED_PARAMETERS = 34_878_573
"""64 channels, 3 input channels, 1 class: README of github.com/doantrongthai/MambaFloodLite, table of models."""

PUBLISHED_GMACS = 66.63
"""At 256x256, 3 input channels, 1 class: README of github.com/FengheTan9/Medical-Image-Segmentation-Benchmarks."""


def parameters_by_hand(width: int, in_channels: int, classes: int) -> int:
    """Convolutions without bias, batch normalisations of two parameters a channel, a 1x1 head with bias."""
    widths = [width, 2 * width, 4 * width, 8 * width, 16 * width]
    units = lambda before, after: 9 * before * after + 2 * after + 9 * after * after + 2 * after  # noqa: E731
    encoder = sum(units(before, after) for before, after in zip([in_channels, *widths], widths, strict=False))
    up = sum(9 * 2 * w * w + 2 * w for w in widths[:-1])
    gates = sum(2 * (w * (w // 2) + 2 * (w // 2)) + w // 2 + 2 for w in widths[:-1])
    units_after = sum(units(2 * w, w) for w in widths[:-1])
    return encoder + up + gates + units_after + width * classes + classes


def biases_by_hand(width: int) -> int:
    """Those of the published network in front of its batch normalisations, one per channel."""
    widths = [width, 2 * width, 4 * width, 8 * width, 16 * width]
    return 2 * sum(widths) + sum(2 * w + w + 2 * (w // 2) + 1 for w in widths[:-1])


def parameters(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("width", "in_channels", "classes"), [(64, 1, 8), (8, 3, 2)])
def test_parameter_count(width, in_channels, classes):
    net = AttentionUNet(in_channels=in_channels, classes=classes, width=width)
    assert parameters(net) == parameters_by_hand(width, in_channels, classes)


def test_published_parameter_count():
    assert biases_by_hand(64) == 7_812
    assert parameters_by_hand(64, 3, 1) + 7_812 == PUBLISHED_PARAMETERS
    assert parameters(AttentionUNet(in_channels=3, classes=1)) == PUBLISHED_PARAMETERS - 7_812


def test_published_multiplications():
    with torch.device("meta"):
        net, x = AttentionUNet(in_channels=3, classes=1).eval(), torch.zeros(1, 3, 256, 256)
    with FlopCounterMode(display=False) as counter:
        net(x)
    # Two operations a multiplication. Published counts have cheap layers as well: the 0.048 G normalised values
    # with 2 to 4 operations each and about as many biases, ReLUs and upsampled pixels. A gate is 0.27 G.
    assert 0 < PUBLISHED_GMACS - counter.get_total_flops() / 2e9 < 0.25


def test_shapes_of_every_level():
    net = AttentionUNet(width=4)
    features = net.encode(torch.zeros(2, 1, 64, 96))
    assert [tuple(f.shape) for f in features] == [
        (2, 4, 64, 96),
        (2, 8, 32, 48),
        (2, 16, 16, 24),
        (2, 32, 8, 12),
        (2, 64, 4, 6),
    ]
    shapes = [tuple(net.decode(features, blocks=k).shape) for k in range(5)]
    assert shapes == [(2, 64, 4, 6), (2, 32, 8, 12), (2, 16, 16, 24), (2, 8, 32, 48), (2, 4, 64, 96)]


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """In double precision, with normalisations that are not the identity."""
    generator = torch.Generator().manual_seed(0)
    for name, value in module.double().eval().state_dict().items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator, dtype=value.dtype)
            value.copy_(drawn.abs() + 0.5 if name.endswith("running_var") else drawn)
    return module


def normalised(value: np.ndarray, norm: torch.nn.BatchNorm2d) -> np.ndarray:
    scale, shift, mean, variance = (
        t.detach().numpy() for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    return (value - mean) / np.sqrt(variance + 1e-5) * scale + shift


def slow_gate(gate: AttentionGate, skip: np.ndarray, g: np.ndarray) -> np.ndarray:
    """a = sigmoid(psi^T relu(W_x x + W_g g)) x of each pixel by itself."""
    w_g, w_x, psi = (part[0].weight.detach().numpy()[:, :, 0, 0] for part in (gate.of_gate, gate.of_skip, gate.psi))
    out = np.empty_like(skip)
    for b, y, x in np.ndindex(skip.shape[0], *skip.shape[2:]):
        both = normalised(w_g @ g[b, :, y, x], gate.of_gate[1]) + normalised(w_x @ skip[b, :, y, x], gate.of_skip[1])
        score = normalised(psi @ np.maximum(both, 0), gate.psi[1])
        out[b, :, y, x] = skip[b, :, y, x] / (1 + np.exp(-score))
    return out


def test_gate_against_each_pixel_by_itself():
    gate = randomised(AttentionGate(6))
    skip, g = torch.randn(2, 2, 6, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wanted = slow_gate(gate, skip.numpy(), g.numpy())
    with torch.no_grad():
        assert np.allclose(gate(skip, g).numpy(), wanted, rtol=1e-12, atol=1e-12)
    assert not np.allclose(wanted, skip.numpy())


def test_block_gates_the_skip_by_what_comes_from_below():
    block = randomised(DecoderBlock(6, 4))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 6, 3, 2, dtype=torch.float64, generator=generator)
    skip = torch.randn(1, 4, 6, 4, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        doubled = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        up = F.conv2d(doubled, block.up[1].weight, padding=1).permute(0, 2, 3, 1).numpy()
        up = np.maximum(normalised(up, block.up[2]), 0).transpose(0, 3, 1, 2)
        gated = slow_gate(block.gate, skip.numpy(), up)
        wanted = block.units(torch.from_numpy(np.concatenate([gated, up], axis=1)))
        assert torch.allclose(block(x, skip), wanted, rtol=1e-10)


def test_a_closed_gate_hides_its_skip():
    net = AttentionUNet(width=4).eval()
    features = net.encode(torch.rand(1, 1, 32, 32))
    other = [torch.rand_like(features[0]), *features[1:]]
    assert not torch.equal(net.decode(features), net.decode(other))
    torch.nn.init.constant_(net.decoder[-1].gate.psi[1].bias, -1000.0)
    assert torch.equal(net.decode(features), net.decode(other))
