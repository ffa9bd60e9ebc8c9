"""UCTransNet: a U-Net whose skips pass a transformer over channels (Wang et al., AAAI 2022, arXiv:2109.04335).

What the paper leaves open is as in the authors' program (github.com/McGregorWwww/UCTransNet).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jcl.backbones._base import Backbone
from jcl.backbones._channel_transformer import ChannelTransformer
from jcl.backbones._layers import conv_unit, run_levels

__all__ = ["UCTransNet"]

LEVELS = 4


def conv_units(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two convolution units."""
    return nn.Sequential(conv_unit(in_channels, out_channels), conv_unit(out_channels, out_channels))


class ChannelCrossAttention(nn.Module):
    """Channel-wise cross attention (CCA): weights the channels of a skip by what skip and decoder hold on average.

    The program's ReLU behind it is left out: a skip is a sum of outputs of ReLUs, and so never negative.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.skip = nn.Linear(channels, channels)
        self.decoder = nn.Linear(channels, channels)

    def forward(self, skip: Float[Tensor, "b c H W"], x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c H W"]:
        weights = ((self.skip(skip.mean((2, 3))) + self.decoder(x.mean((2, 3)))) / 2).sigmoid()
        return skip * weights[:, :, None, None]


class DecoderBlock(nn.Module):
    """Upsampling (nearest, x 2), concatenation with the attended skip, two convolution units."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.attention = ChannelCrossAttention(in_channels)
        self.units = conv_units(2 * in_channels, out_channels)

    def forward(self, x: Float[Tensor, "b c h w"], skip: Float[Tensor, "b c H W"]) -> Float[Tensor, "b d H W"]:
        return self.units(torch.cat([self.attention(skip, x), F.interpolate(x, scale_factor=2.0)], dim=1))


class Encoder(nn.Module):
    """One convolution unit, then four times 2x2 max pooling and two units."""

    def __init__(self, in_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([conv_unit(in_channels, channels[0])])
        self.blocks.extend(
            nn.Sequential(nn.MaxPool2d(2), conv_units(before, after)) for before, after in pairwise(channels)
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        return run_levels(self.blocks, x)


class UCTransNet(Backbone):
    """U-Net whose four skips are fused by a transformer (CCT) and weighted by the decoder (CCA).

    Channels are `width`, 2, 4, 8 times it, and 8 times it at the bottom (paper: width 64). Any image size is taken:
    it is padded with zeros to a multiple of 16, `forward` crops its output back, and the learned positions, 14 x 14
    for the paper's 224 x 224 pixels, are interpolated to the size at hand. The transformer serves the decoder alone:
    `encode` costs nothing of it.

    Dropout in the transformer draws from PyTorch's own generator while training.

    Examples:
        >>> net = UCTransNet(in_channels=1, classes=4, width=8)
        >>> net(torch.zeros(2, 1, 50, 70)).shape
        torch.Size([2, 4, 50, 70])
    """

    stride = 2**LEVELS
    blocks = LEVELS

    def __init__(self, *, in_channels: int = 1, classes: int = 2, width: int = 64) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.feature_channels = tuple(width * factor for factor in (1, 2, 4, 8, 8))
        skips = self.feature_channels[:-1]
        self.encoder = Encoder(in_channels, self.feature_channels)
        self.transformer = ChannelTransformer(skips)
        self.decoder = nn.ModuleList(
            DecoderBlock(before, after) for before, after in zip(reversed(skips), self._decoded()[1:], strict=True)
        )
        self.head = nn.Conv2d(width, classes, 1)

    def _decoded(self) -> tuple[int, ...]:
        """Channels behind each number of decoder blocks: as many as the next skip has."""
        return (*reversed(self.feature_channels[:-1]), self.feature_channels[0])

    def decode(self, features: list[Tensor], blocks: int | None = None) -> Tensor:
        """As in `Backbone`, with skips that the transformer has fused: those that are used, and no others."""
        count = self._count(blocks)
        *skips, x = features
        height, width = x.shape[-2:]
        fused = self.transformer(skips, (height, width), count) if count else []
        return super().decode([*fused, x], count)

    def decoder_channels(self, blocks: int) -> int:
        """Channels that `decode(features, blocks)` returns."""
        return self._decoded()[blocks]

    def submodule_names(self, blocks: int) -> tuple[str, ...]:
        """The parts of the transformer are among them where anything is decoded."""
        encoder, *decoder = super().submodule_names(blocks)
        fusing = (f"transformer.{name}" for name in self.transformer.submodule_names(blocks)) if blocks else ()
        return (encoder, *fusing, *decoder)
