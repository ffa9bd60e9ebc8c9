"""The Rolling-Unet against published figures, layers counted by hand, and rolling with one loop a position."""

import pytest
import torch
from torch.nn import functional as F

from jcl.backbones._surgery import reset_parameters
from jcl.backbones.rolling_unet import (
    HEIGHT,
    WIDTH,
    Conv,
    DecoderBlock,
    DoubleOrthogonalRollingMLP,
    Linear,
    LongLocal,
    OrthogonalRollingMLP,
    RollingMLP,
    RollingUNet,
    roll_channels,
)


def parameters_by_hand(w: int, in_channels: int, classes: int) -> int:
    """Layer for layer, in the order of the forward pass of the authors' program."""

    def units(before: int, hidden: int, after: int) -> int:
        return 9 * before * hidden + 2 * hidden + 9 * hidden * after + 2 * after

    def incentive(before: int, after: int) -> int:
        return 9 * before * after + after + 2 * after

    def long_local(c: int) -> int:
        four_rolled = 4 * (c * c + c)
        norm_and_two_mixings = 2 * 2 * c + 2 * (2 * c * c + c)
        depthwise_separable = 9 * c + c + c * c + c + 2 * c
        return four_rolled + norm_and_two_mixings + depthwise_separable + 2 * c

    encoder = units(in_channels, w, w) + units(w, 2 * w, 2 * w) + units(2 * w, 4 * w, 4 * w)
    encoder += incentive(4 * w, 8 * w) + long_local(8 * w) + incentive(8 * w, 16 * w) + long_local(16 * w)
    decoder = incentive(16 * w, 8 * w) + long_local(8 * w)
    decoder += 9 * 8 * w * 4 * w + 2 * 4 * w
    decoder += units(4 * w, 4 * w, 2 * w) + units(2 * w, 2 * w, w) + units(w, w, w // 2)
    return encoder + decoder + w // 2 * classes + classes


@pytest.mark.parametrize(("width", "in_channels", "classes"), [(16, 3, 1), (32, 1, 4), (4, 2, 3)])
def test_parameter_count(width, in_channels, classes):
    net = RollingUNet(in_channels=in_channels, classes=classes, width=width)
    assert sum(p.numel() for p in net.parameters()) == parameters_by_hand(width, in_channels, classes)


@pytest.mark.parametrize(("width", "millions"), [(16, 1.78), (32, 7.10), (64, 28.32)])
def test_published_parameter_count(width, millions):
    """S, M and L on three channels and one class, as in the comparison of AD-GBC (Shen et al., CVPR 2026).

    The authors' program also has a layer normalisation for each of three Lo2 blocks that it never runs, and biases
    ahead of batch normalisations; the figure is the same with them and without.
    """
    net = RollingUNet(in_channels=3, classes=1, width=width)
    ours = sum(p.numel() for p in net.parameters())
    never_run = 2 * (8 + 16 + 8) * width
    biases = (2 * (1 + 2 + 4) + 4 + (4 + 2) + (2 + 1) + 1) * width + width // 2
    assert round(ours / 1e6, 2) == round((ours + never_run + biases) / 1e6, 2) == millions


def test_shapes_of_every_level():
    net = RollingUNet(width=4)
    features = net.encode(torch.zeros(2, 1, 64, 96))
    assert [tuple(f.shape) for f in features] == [
        (2, 4, 64, 96),
        (2, 8, 32, 48),
        (2, 16, 16, 24),
        (2, 32, 8, 12),
        (2, 64, 4, 6),
    ]
    shapes = [tuple(net.decode(features, blocks=k).shape) for k in range(5)]
    assert shapes == [(2, 64, 4, 6), (2, 32, 8, 12), (2, 8, 16, 24), (2, 4, 32, 48), (2, 2, 64, 96)]


def slow_roll(x: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """Put what channel c has at (i, j) where c steps of (down, right) lead to, beginning anew at an edge."""
    _, height, width, channels = x.shape
    out = torch.full_like(x, torch.nan)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                out[:, (i + c * down) % height, (j + c * right) % width, c] = x[:, i, j, c]
    return out


@pytest.mark.parametrize(("dim", "direction"), [(HEIGHT, 1), (HEIGHT, -1), (WIDTH, 1), (WIDTH, -1)])
@pytest.mark.parametrize("shape", [(2, 4, 3, 11), (1, 5, 7, 3), (2, 1, 1, 4)])
def test_rolling_is_that_of_a_loop_over_channels_and_positions(shape, dim, direction):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
    steps = (direction, 0) if dim == HEIGHT else (0, direction)
    rolled = roll_channels(x, dim, direction)
    assert torch.equal(rolled, slow_roll(x, *steps))
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((rolled * weights).sum(), x)
    assert torch.equal(gradient, slow_roll(weights, -steps[0], -steps[1]))


def random_weights(module: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return module.double()


def slow_orthogonal(mlp: OrthogonalRollingMLP, x: torch.Tensor, first: tuple[int, int], second: tuple[int, int]):
    before, after = mlp[0].mix, mlp[3].mix
    hidden = torch.einsum("bhwc,dc->bhwd", slow_roll(x, *first), before.weight) + before.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    return torch.einsum("bhwc,dc->bhwd", slow_roll(hidden, *second), after.weight) + after.bias


def slow_long(mlp: DoubleOrthogonalRollingMLP, x: torch.Tensor) -> torch.Tensor:
    one = slow_orthogonal(mlp.down_right, x, (1, 0), (0, 1)) + x
    two = slow_orthogonal(mlp.left_down, x, (0, -1), (1, 0)) + x
    both = torch.cat([one, two], dim=-1)
    deviation = (both.var(dim=-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    normed = (both - both.mean(dim=-1, keepdim=True)) / deviation * mlp.norm.weight + mlp.norm.bias
    return normed @ mlp.mix.weight.T + mlp.mix.bias + x


def test_lo2_block_step_by_step():
    block = random_weights(LongLocal(6, dropout=0.0))
    x = torch.randn(2, 5, 4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    depthwise, pointwise, _, norm = block.local
    padded = F.pad(x, (0, 0, 1, 1, 1, 1))
    local = depthwise.bias + sum(
        padded[:, i : i + 5, j : j + 4] * depthwise.weight[:, 0, i, j] for i in range(3) for j in range(3)
    )
    local = (local @ pointwise.weight[:, :, 0, 0].T + pointwise.bias).relu()
    variance = local.var(dim=(0, 1, 2), unbiased=False)
    local = (local - local.mean(dim=(0, 1, 2))) / (variance + 1e-5).sqrt() * norm.weight + norm.bias
    both = torch.cat([slow_long(block.long, x), local], dim=-1)
    assert torch.allclose(block(x), both @ block.mix.weight.T + block.mix.bias)


def reached(module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Whether a position counts for the output in the corner: (h, w)."""
    x.requires_grad_()
    random_weights(module)(x)[0, 0, 0].sum().backward()
    return (x.grad[0] != 0).any(dim=-1)


@pytest.mark.parametrize(("channels", "rows"), [(8, {0, 1, 2, 3, 4, 5}), (3, {0, 4, 5})])
def test_one_rolling_mlp_sees_its_column_as_far_as_there_are_channels(channels, rows):
    seen = reached(RollingMLP(channels, HEIGHT, 1), torch.randn(1, 6, 5, channels, dtype=torch.float64))
    assert {(i, j) for i, j in seen.nonzero().tolist()} == {(i, 0) for i in rows}


def test_two_orthogonal_ones_see_the_whole_image():
    mlp = OrthogonalRollingMLP(8, (HEIGHT, 1), (WIDTH, 1), dropout=0.0)
    assert reached(mlp, torch.randn(1, 6, 5, 8, dtype=torch.float64)).all()


def test_skips_are_added():
    block = DecoderBlock(4, 4, 2).eval()
    x, skip = torch.rand(1, 4, 3, 5), torch.rand(1, 4, 6, 10)
    upsampled = F.interpolate(x, (6, 10), mode="bilinear", align_corners=False)
    assert torch.allclose(block(x, skip), block(torch.zeros_like(x), skip + upsampled), atol=1e-6)


def test_dropout_in_the_bottleneck_alone():
    net, x = RollingUNet(width=4), torch.rand(2, 1, 64, 64)
    *first, bottleneck = net.encode(x)
    *second, other = net.encode(x)
    assert all(map(torch.equal, first, second))
    assert not torch.equal(bottleneck, other)
    features = [*first, bottleneck]
    assert torch.equal(net.decode(features), net.decode(features))


def test_memory_format_does_not_matter():
    net, x = RollingUNet(width=4).eval(), torch.rand(2, 1, 50, 70)
    wanted = net(x)
    net.to(memory_format=torch.channels_last)
    assert torch.allclose(net(x.contiguous(memory_format=torch.channels_last)), wanted, atol=1e-5)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    ("layer", "deviation"),
    [
        (lambda: Linear(256, 256), 0.02),
        (lambda: Conv(32, 64, 3), (2 / (9 * 64)) ** 0.5),
        (lambda: Conv(4096, 4096, 3, groups=4096), (2 / 9) ** 0.5),
    ],
)
def test_weights_begin_as_in_the_authors_program(layer, deviation, again):
    """18432 weights or more: their deviation is within 1 / sqrt(2 * 18432) = 0.5 % of its own, six times over."""
    torch.manual_seed(0)
    made = layer()
    if again:
        reset_parameters(made)
    assert made.weight.std().item() == pytest.approx(deviation, rel=0.031)
    assert not made.bias.any()
