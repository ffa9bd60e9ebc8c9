"""The channel transformer against the paper's equations in loops over levels and heads, in NumPy."""

import numpy as np
import pytest
import torch
from scipy.special import erf, softmax
from torch import nn
from torch.nn import functional as F

from jcl.backbones._channel_transformer import (
    ChannelTransformer,
    Embedding,
    Layer,
    LevelLayer,
    Reconstruction,
    channel_attention,
    resized,
)

CHANNELS = (3, 6, 12, 24)
TOKENS = 5


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def layer_norm(x: np.ndarray, norm: nn.LayerNorm) -> np.ndarray:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * array(norm.weight) + array(norm.bias)


def fused_level(tokens: np.ndarray, joint: np.ndarray, layer: Layer, level: LevelLayer) -> np.ndarray:
    """One level of one image: tokens (n, c), normalised tokens of all levels (n, k)."""
    c, k = tokens.shape[1], joint.shape[1]
    normed = layer_norm(tokens, level.norm)
    contexts = []
    for head in range(4):
        queries = normed @ array(level.query.weight)[head * c : (head + 1) * c].T
        keys = joint @ array(layer.key.weight)[head * k : (head + 1) * k].T
        values = joint @ array(layer.value.weight)[head * k : (head + 1) * k].T
        similarity = queries.T @ keys / np.sqrt(k)
        similarity = (similarity - similarity.mean()) / np.sqrt(similarity.var() + 1e-5)
        contexts.append(softmax(similarity, axis=1) @ values.T)
    tokens = tokens + np.mean(contexts, axis=0).T @ array(level.out.weight).T
    norm, widen, _, narrow = level.feed_forward
    hidden = layer_norm(tokens, norm) @ array(widen.weight).T + array(widen.bias)
    hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
    return tokens + hidden @ array(narrow.weight).T + array(narrow.bias)


def test_a_layer_is_that_of_the_equations():
    torch.manual_seed(0)
    layer = Layer(CHANNELS).eval()
    for name, parameter in layer.named_parameters():
        if "norm" in name:
            nn.init.normal_(parameter)
    tokens = [torch.randn(2, TOKENS, c) for c in CHANNELS]
    found = layer(tokens, len(CHANNELS))
    for image in range(2):
        joint = layer_norm(np.concatenate([array(t[image]) for t in tokens], axis=1), layer.norm)
        for own, fused, level in zip(tokens, found, layer.levels, strict=True):
            wanted = fused_level(array(own[image]), joint, layer, level)
            assert np.allclose(array(fused[image]), wanted, atol=1e-5)


def test_softmax_is_in_float32_under_autocast():
    kinds = []

    class Spy(nn.Module):
        def forward(self, weights: torch.Tensor) -> torch.Tensor:
            kinds.append((weights.dtype, weights.sum(-1)))
            return weights

    with torch.autocast("cpu", torch.bfloat16):
        queries, keys = (F.linear(torch.randn(2, 4, 9, c), torch.randn(c, c)) for c in (3, 10))
        mixed = channel_attention(queries, keys, keys, Spy())
    assert queries.dtype == mixed.dtype == torch.bfloat16
    ((kind, sums),) = kinds
    assert kind == torch.float32
    assert torch.allclose(sums, torch.ones(2, 4, 3), atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_reconstruction_is_that_of_the_paper_which_upsamples_first(training):
    torch.manual_seed(0)
    reconstruct = Reconstruction(6).train(training)
    conv, norm, _ = reconstruct.unit
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    nn.init.normal_(norm.running_mean)
    tokens, skip = torch.randn(2, 6, 6), torch.rand(2, 6, 8, 12)
    large = F.layer_norm(tokens, (6,)).transpose(1, 2).reshape(2, 6, 2, 3)
    large = conv(large.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3))
    running = (None, None) if training else (norm.running_mean, norm.running_var)
    wanted = skip + F.batch_norm(large, *running, norm.weight, norm.bias, training=training).relu()
    assert torch.allclose(reconstruct(tokens, skip, (2, 3)), wanted, atol=1e-4)  # layer norms differ in their epsilon


@pytest.mark.parametrize(("channels", "patch", "side"), [(3, 16, 224), (4, 8, 112), (5, 4, 56), (6, 2, 28)])
def test_the_positions_are_added_as_they_are_at_the_size_of_the_paper(channels, patch, side):
    torch.manual_seed(0)
    embed = Embedding(channels, patch).eval()
    nn.init.normal_(embed.positions)
    image = torch.rand(2, channels, side, side)
    tokens = embed(image)
    for row, column in ((0, 0), (3, 11), (13, 13)):
        corner = image[:, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
        wanted = torch.einsum("bchw,dchw->bd", corner, embed.patches.weight) + embed.patches.bias
        wanted = wanted + embed.positions[:, row, column]
        assert torch.allclose(tokens[:, 14 * row + column], wanted, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(28, 14), (10, 21), (7, 5)])
def test_positions_of_other_sizes_lie_where_their_tokens_do(height, width):
    """A slope stays the same slope across the image, taken at the middle of each token and level beyond the border."""
    slope = torch.arange(14.0)
    grid = torch.stack([slope[:, None].expand(14, 14), slope[None].expand(14, 14)])
    found = resized(grid, height, width)
    rows, columns = (((torch.arange(n) + 0.5) * 14 / n - 0.5).clamp(0, 13) for n in (height, width))
    assert torch.allclose(found[0], rows[:, None].expand(-1, width), atol=1e-5)
    assert torch.allclose(found[1], columns.expand(height, -1), atol=1e-5)


def test_fewer_levels_are_the_deepest_of_all():
    torch.manual_seed(0)
    transformer = ChannelTransformer(CHANNELS).eval()
    skips = [torch.rand(2, c, 64 // 2**level, 32 // 2**level) for level, c in enumerate(CHANNELS)]
    full = transformer(skips, (4, 2), 4)
    for deepest in range(1, 4):
        part = transformer(skips, (4, 2), deepest)
        assert len(part) == deepest
        assert all(map(torch.equal, part, full[-deepest:]))


def test_every_level_hears_of_all_others():
    torch.manual_seed(0)
    transformer = ChannelTransformer(CHANNELS).eval()
    skips = [torch.rand(1, c, 32 // 2**level, 32 // 2**level, requires_grad=True) for level, c in enumerate(CHANNELS)]
    for fused in transformer(skips, (2, 2), 4):
        gradients = torch.autograd.grad(fused.square().sum(), skips, retain_graph=True)
        assert all(gradient.any() for gradient in gradients)
