"""U-KAN, a U-Net with Kolmogorov-Arnold layers at its deepest levels (Li et al., AAAI 2025, arXiv:2406.02918)."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jcl.backbones import crop_like, pad_to_multiple
from jcl.kan import KANLinear

__all__ = ["UKAN"]

CONVOLUTIONAL = (1, 2, 8)
"""Channels of the convolutional stages over `width`."""

TOKENISED = (10, 16)
"""Channels of the tokenised stages over `width`."""

STAGES = len(CONVOLUTIONAL) + len(TOKENISED)


class ConvUnits(nn.Sequential):
    """Two times Conv3x3 (padding 1) -> BatchNorm -> ReLU.

    The convolutions carry no bias: the batch normalisation behind each takes it out again.
    """

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, hidden_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(hidden_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


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


class ConvStage(nn.Sequential):
    """Two conv units and a 2x2 max pooling."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(ConvUnits(in_channels, out_channels, out_channels), nn.MaxPool2d(2))


class TokenStage(nn.Sequential):
    """Overlapping patches (Conv3x3 of stride 2), then a KAN block, a layer normalisation behind each."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1),
            ChannelNorm(out_channels),
            KANBlock(out_channels),
            ChannelNorm(out_channels),
        )


class Encoder(nn.Module):
    """Three convolutional and two tokenised stages, each of which halves height and width."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        widths = [in_channels, *(width * times for times in CONVOLUTIONAL + TOKENISED)]
        kinds = [ConvStage] * len(CONVOLUTIONAL) + [TokenStage] * len(TOKENISED)
        self.stages = nn.ModuleList(
            kind(before, after) for kind, before, after in zip(kinds, widths, widths[1:], strict=False)
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        features: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class DecoderBlock(nn.Module):
    """Two conv units and bilinear upsampling; the skip, if there is one, is added; then `refine`."""

    def __init__(self, in_channels: int, out_channels: int, *, tokenised: bool) -> None:
        super().__init__()
        self.units = ConvUnits(in_channels, in_channels, out_channels)
        self.refine = nn.Sequential(KANBlock(out_channels), ChannelNorm(out_channels)) if tokenised else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"], skip: Float[Tensor, "b s H W"] | None) -> Tensor:
        x = F.interpolate(self.units(x), scale_factor=2, mode="bilinear")
        return self.refine(x if skip is None else x + skip)


class UKAN(nn.Module):
    """Encoder of three convolutional and two tokenised stages, decoder of five blocks, and a 1x1 head.

    Channels of the stages are 1, 2, 8, 10 and 16 times `width`. At width 16 they are those of the paper (128, 160 and
    256 in the deepest three). The first two decoder blocks have KAN blocks too, as in the authors' program, which adds
    skips where the paper's equation 9 concatenates them; its biases before batch normalisations are left out, and so is
    its ReLU of what is not negative anyway. Any image size is taken: it is padded with zeros to a multiple of 32, and
    `forward` crops its output back.

    Example:
        >>> net = UKAN(in_channels=1, classes=4, width=8)
        >>> net(torch.zeros(2, 1, 50, 70)).shape
        torch.Size([2, 4, 50, 70])
    """

    stride = 2**STAGES
    blocks = STAGES

    def __init__(self, *, in_channels: int = 1, classes: int = 2, width: int = 16) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.encoder = Encoder(in_channels, width)
        self.feature_channels = tuple(width * times for times in CONVOLUTIONAL + TOKENISED)
        """Channels of each level of `encode`, shallow to deep."""
        self.decoder = nn.ModuleList(
            DecoderBlock(
                self.decoder_channels(block), self.decoder_channels(block + 1), tokenised=block < len(TOKENISED)
            )
            for block in range(STAGES)
        )
        self.head = nn.Conv2d(self.decoder_channels(STAGES), classes, 1)

    def encode(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """Features of five levels, shallow to deep: (b, feature_channels[l], H / 2^(l + 1), W / 2^(l + 1)).

        H and W are h and w, padded to multiples of 32.
        """
        return self.encoder(pad_to_multiple(x, self.stride))

    def decode(self, features: list[Tensor], blocks: int | None = None) -> Tensor:
        """Output of decoder block number `blocks` (all of them by default); later ones do not run.

        With 0 it is the bottleneck itself. Shape: (b, decoder_channels(k), H / 2^(5-k), W / 2^(5-k)).

        Raises:
            ValueError: `blocks` is not between 0 and 5.
        """
        count = len(self.decoder) if blocks is None else blocks
        if not 0 <= count <= len(self.decoder):
            raise ValueError(f"blocks is {count}; this decoder has 0 to {len(self.decoder)}")
        *skips, x = features
        for block in list(self.decoder)[:count]:
            x = block(x, skips.pop() if skips else None)
        return x

    def decoder_channels(self, blocks: int) -> int:
        """Channels that `decode(features, blocks)` returns; the last block, which has no skip, keeps their number."""
        return self.feature_channels[max(STAGES - 1 - blocks, 0)]

    def parts(self, blocks: int) -> tuple[str, ...]:
        """Names of the submodules that `encode` and `decode(features, blocks)` run."""
        return ("encoder", *(f"decoder.{index}" for index in range(blocks)))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Logits at the size of the input."""
        return crop_like(self.head(self.decode(self.encode(x))), x)
