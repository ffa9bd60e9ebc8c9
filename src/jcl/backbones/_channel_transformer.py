"""The channel-wise cross fusion transformer of UCTransNet (CCT; Wang et al., AAAI 2022, arXiv:2109.04335).

Levels of a U-Net as tokens of patches, whose channels attend to the channels of all levels. What the paper leaves
open is as in the authors' program (github.com/McGregorWwww/UCTransNet).
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ChannelTransformer"]

HEADS = 4
LAYERS = 4
EXPANSION = 4
DROPOUT = 0.1
EPSILON = 1e-6
"""Of the layer normalisations."""

GRID = 14
"""Tokens along a side of the paper's images of 224 x 224."""


def resized(positions: Float[Tensor, "c g g"], height: int, width: int) -> Float[Tensor, "c {height} {width}"]:
    """Positions learned for one grid, interpolated to another (bilinear, half-pixel centres, not antialiased)."""
    if positions.shape[1:] == (height, width):
        return positions
    return F.interpolate(positions[None], size=(height, width), mode="bilinear")[0]


def channel_attention(
    queries: Float[Tensor, "b heads n c"],
    keys: Float[Tensor, "b heads n k"],
    values: Float[Tensor, "b heads n k"],
    dropout: nn.Module,
) -> Float[Tensor, "b n c"]:
    """Attention of channels to channels, with the n tokens as features, and the mean over heads.

    For each head softmax(psi(Q^T K / sqrt(k))) V^T, where psi normalises the c x k map to mean 0 and variance 1.
    """
    scores = (queries / math.sqrt(keys.shape[-1])).transpose(-1, -2) @ keys
    weights = F.instance_norm(scores.float()).softmax(-1)  # in float32 under autocast as well
    return (values @ dropout(weights).to(values.dtype).transpose(-1, -2)).mean(1)


def per_head(projected: Float[Tensor, "b n hc"]) -> Float[Tensor, "b h n c"]:
    """The channels of each head by themselves."""
    return projected.unflatten(-1, (HEADS, -1)).transpose(1, 2)


class Embedding(nn.Module):
    """One level as tokens: patches by a convolution, plus learned positions."""

    def __init__(self, channels: int, patch: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, channels, patch, stride=patch)
        self.positions = nn.Parameter(torch.zeros(channels, GRID, GRID))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, skip: Float[Tensor, "b c H W"]) -> Float[Tensor, "b n c"]:
        patches = self.patches(skip)
        tokens = patches + resized(self.positions, *patches.shape[-2:])
        return self.dropout(tokens.flatten(2).transpose(1, 2))


class FeedForward(nn.Sequential):
    """LayerNorm -> Linear -> GELU -> Linear; the linear layers begin as Xavier's."""

    def __init__(self, channels: int) -> None:
        widen, narrow = nn.Linear(channels, EXPANSION * channels), nn.Linear(EXPANSION * channels, channels)
        super().__init__(nn.LayerNorm(channels, eps=EPSILON), widen, nn.GELU(), narrow)
        for linear in (widen, narrow):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)


class LevelLayer(nn.Module):
    """What a transformer layer has for one level: queries, output and feed-forward."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=EPSILON)
        self.query = nn.Linear(channels, HEADS * channels, bias=False)
        self.attention_dropout = nn.Dropout(DROPOUT)
        self.out = nn.Linear(channels, channels, bias=False)
        self.dropout = nn.Dropout(DROPOUT)
        self.feed_forward = FeedForward(channels)

    def forward(
        self, tokens: Float[Tensor, "b n c"], keys: Float[Tensor, "b h n k"], values: Float[Tensor, "b h n k"]
    ) -> Float[Tensor, "b n c"]:
        queries = per_head(self.query(self.norm(tokens)))
        tokens = tokens + self.dropout(self.out(channel_attention(queries, keys, values, self.attention_dropout)))
        return tokens + self.feed_forward(tokens)


class Layer(nn.Module):
    """Each level's channels attend to those of all levels."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        total = sum(channels)
        self.norm = nn.LayerNorm(total, eps=EPSILON)
        self.key = nn.Linear(total, HEADS * total, bias=False)
        self.value = nn.Linear(total, HEADS * total, bias=False)
        self.levels = nn.ModuleList(LevelLayer(own) for own in channels)

    def forward(self, tokens: list[Tensor], deepest: int) -> list[Tensor]:
        """Tokens (b, n, c) of all levels in, those of the `deepest` levels out."""
        joint = self.norm(torch.cat(tokens, dim=-1))
        keys, values = per_head(self.key(joint)), per_head(self.value(joint))
        levels = list(zip(self.levels, tokens, strict=True))[-deepest:]
        return [level(own, keys, values) for level, own in levels]


class Reconstruction(nn.Module):
    """Tokens back at the size of the skip, and added to it.

    Convolution (1x1), batch normalisation and ReLU work pixel by pixel, so that they come before the upsampling
    (nearest), where there are far fewer pixels; the paper has them behind it. Only the running variance feels it: its
    factor n / (n - 1) counts tokens. Layer normalisation and convolution have no bias, which the batch normalisation
    would take out again.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=EPSILON, bias=False)
        self.unit = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )

    def forward(
        self, tokens: Float[Tensor, "b n c"], skip: Float[Tensor, "b c H W"], grid: tuple[int, int]
    ) -> Float[Tensor, "b c H W"]:
        fused = self.unit(self.norm(tokens).transpose(1, 2).unflatten(-1, grid))
        return skip + F.interpolate(fused, size=skip.shape[-2:])


class ChannelTransformer(nn.Module):
    """Fuses the skips of a U-Net, `channels` of them from shallow to deep.

    All levels have the same n tokens, one for each pixel of the bottleneck: patches are of 16, 8, 4 and 2 pixels
    where there are four levels. While training, dropout draws from PyTorch's own generator.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(
            Embedding(own, 2 ** (len(channels) - level)) for level, own in enumerate(channels)
        )
        self.layers = nn.ModuleList(Layer(channels) for _ in range(LAYERS))
        self.reconstructions = nn.ModuleList(Reconstruction(own) for own in channels)

    def forward(self, skips: list[Tensor], grid: tuple[int, int], deepest: int) -> list[Tensor]:
        """The `deepest` skips, fused, shallow to deep; each of its own size.

        `grid` is the height and width of the bottleneck. The last layer answers for the deepest alone; the layers
        before it need all levels.
        """
        tokens = [embed(skip) for embed, skip in zip(self.embeddings, skips, strict=True)]
        *before, last = self.layers
        for layer in before:
            tokens = layer(tokens, len(skips))
        tokens = last(tokens, deepest)
        wanted = zip(list(self.reconstructions)[-deepest:], tokens, skips[-deepest:], strict=True)
        return [reconstruct(own, skip, grid) for reconstruct, own, skip in wanted]

    def submodule_names(self, deepest: int) -> tuple[str, ...]:
        """Names of the submodules that `forward` runs for so many levels."""
        last = LAYERS - 1
        levels = range(len(self.embeddings) - deepest, len(self.embeddings))
        return (
            "embeddings",
            *(f"layers.{index}" for index in range(last)),
            *(f"layers.{last}.{name}" for name in ("norm", "key", "value")),
            *(f"layers.{last}.levels.{level}" for level in levels),
            *(f"reconstructions.{level}" for level in levels),
        )
