"""U-KAN, a U-Net with Kolmogorov-Arnold layers at its deepest levels (Li et al., AAAI 2025, arXiv:2406.02918)."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jcl.backbones._base import Backbone
from jcl.backbones._kan import KANLinear
from jcl.backbones._layers import ConvUnits, run_levels

__all__ = ["UKAN"]

CONVOLUTIONAL = (1, 2, 8)
"""Channels of the convolutional levels over `width`."""

TOKENISED = (10, 16)
"""Channels of the tokenised levels over `width`."""

LEVELS = len(CONVOLUTIONAL) + len(TOKENISED)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation of each pixel's channels."""

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class KANUnit(nn.Module):
    """KAN layer on each pixel's channels -> depth-wise Conv3x3 (padding 1) -> BatchNorm -> ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.kan = KANLinear(channels, channels)
        self.mix = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.mix(self.kan(x.movedim(1, -1)).movedim(-1, 1))


class KANBlock(nn.Module):
    """Layer normalisation and three KAN units, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.units = nn.Sequential(ChannelNorm(channels), *(KANUnit(channels) for _ in range(3)))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.units(x)


class ConvLevel(nn.Sequential):
    """Two conv units and a 2x2 max pooling."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(ConvUnits(in_channels, out_channels), nn.MaxPool2d(2))


class TokenLevel(nn.Sequential):
    """Overlapping patches (Conv3x3 of stride 2), then a KAN block, a layer normalisation behind each."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1),
            ChannelNorm(out_channels),
            KANBlock(out_channels),
            ChannelNorm(out_channels),
        )


class Encoder(nn.Module):
    """Three convolutional and two tokenised levels, each of which halves height and width."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        widths = [in_channels, *(width * times for times in CONVOLUTIONAL + TOKENISED)]
        kinds = [ConvLevel] * len(CONVOLUTIONAL) + [TokenLevel] * len(TOKENISED)
        self.stages = nn.ModuleList(
            kind(before, after) for kind, before, after in zip(kinds, widths, widths[1:], strict=False)
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        return run_levels(self.stages, x)


class DecoderBlock(nn.Module):
    """Two conv units and bilinear upsampling; the skip, if there is one, is added; then `refine`."""

    def __init__(self, in_channels: int, out_channels: int, *, tokenised: bool) -> None:
        super().__init__()
        self.units = ConvUnits(in_channels, out_channels, hidden_channels=in_channels)
        self.refine = nn.Sequential(KANBlock(out_channels), ChannelNorm(out_channels)) if tokenised else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"], skip: Float[Tensor, "b s H W"] | None) -> Tensor:
        x = F.interpolate(self.units(x), scale_factor=2, mode="bilinear")
        return self.refine(x if skip is None else x + skip)


class UKAN(Backbone):
    """Encoder of three convolutional and two tokenised levels, decoder of five blocks, and a 1x1 head.

    Channels of the levels are 1, 2, 8, 10 and 16 times `width`. At width 16 they are those of the paper (128, 160 and
    256 in the deepest three). The first two decoder blocks have KAN blocks too, as in the authors' program, which adds
    skips where the paper's equation 9 concatenates them; its biases before batch normalisations are left out, and so is
    its ReLU of what is not negative anyway. Any image size is taken: it is padded with zeros to a multiple of 32, and
    `forward` crops its output back.

    Examples:
        >>> import torch
        >>> net = UKAN(in_channels=1, classes=4, width=8)
        >>> net(torch.zeros(2, 1, 50, 70)).shape
        torch.Size([2, 4, 50, 70])
    """

    stride = 2**LEVELS
    blocks = LEVELS

    def __init__(self, *, in_channels: int = 1, classes: int = 2, width: int = 16) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.encoder = Encoder(in_channels, width)
        self.feature_channels = tuple(width * times for times in CONVOLUTIONAL + TOKENISED)
        self.decoder = nn.ModuleList(
            DecoderBlock(
                self.decoder_channels(block), self.decoder_channels(block + 1), tokenised=block < len(TOKENISED)
            )
            for block in range(LEVELS)
        )
        self.head = nn.Conv2d(self.decoder_channels(LEVELS), classes, 1)

    def decoder_channels(self, blocks: int) -> int:
        """Channels that `decode(features, blocks)` returns; the last block, which has no skip, keeps their number."""
        return self.feature_channels[max(LEVELS - 1 - blocks, 0)]
