"""The U-Net of the JCL paper (appendix A; Ronneberger et al., 2015, arXiv:1505.04597)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jcl.backbones import crop_like, pad_to_multiple

__all__ = ["UNet"]

STAGES = 4


class ConvUnits(nn.Sequential):
    """Two times Conv3x3 (padding 1) -> BatchNorm -> LeakyReLU.

    The convolutions carry no bias: the batch normalisation behind each takes it out again.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(inplace=True),
        )


class Encoder(nn.Module):
    """Four blocks, each followed by a 2x2 max pooling, then the center block."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**stage for stage in range(STAGES + 1)]
        self.blocks = nn.ModuleList(
            ConvUnits(before, after) for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        features: list[Tensor] = []
        for stage, block in enumerate(self.blocks):
            x = block(x if stage == 0 else self.pool(x))
            features.append(x)
        return features


class DecoderBlock(nn.Module):
    """ConvTranspose2x2 (stride 2), concatenation with the skip, two conv units."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.units = ConvUnits(2 * out_channels, out_channels)

    def forward(self, x: Float[Tensor, "b c h w"], skip: Float[Tensor, "b s H W"]) -> Tensor:
        return self.units(torch.cat([self.up(x), skip], dim=1))


class UNet(nn.Module):
    """Encoder of four blocks and a center, decoder of four blocks, and a 1x1 head.

    Channels are `width`, 2, 4, 8 times it, and 16 times it in the center (paper: width 32, 8.63 M
    parameters with the projectors). Any image size is taken: it is padded with zeros to a multiple
    of 16, and `forward` crops its output back.

    Example:
        >>> net = UNet(in_channels=1, classes=4, width=8)
        >>> net(torch.zeros(2, 1, 50, 70)).shape
        torch.Size([2, 4, 50, 70])
    """

    stride = 2**STAGES
    blocks = STAGES

    def __init__(self, *, in_channels: int = 1, classes: int = 2, width: int = 32) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.encoder = Encoder(in_channels, width)
        self.decoder = nn.ModuleList(
            DecoderBlock(width * 2 ** (stage + 1), width * 2**stage) for stage in reversed(range(STAGES))
        )
        self.head = nn.Conv2d(width, classes, 1)
        self.feature_channels = tuple(width * 2**stage for stage in range(STAGES + 1))
        """Channels of each level of `encode`, shallow to deep."""

    def encode(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """Features of five levels, shallow to deep: (b, width * 2^l, H / 2^l, W / 2^l).

        H and W are h and w, padded to multiples of 16.
        """
        return self.encoder(pad_to_multiple(x, self.stride))

    def decode(self, features: list[Tensor], blocks: int | None = None) -> Tensor:
        """Output of decoder block number `blocks` (all of them by default); later ones do not run.

        With 0 it is the bottleneck itself. Shape: (b, width * 2^(4-k), H / 2^(4-k), W / 2^(4-k)).

        Raises:
            ValueError: `blocks` is not between 0 and 4.
        """
        count = len(self.decoder) if blocks is None else blocks
        if not 0 <= count <= len(self.decoder):
            raise ValueError(f"blocks is {count}; this decoder has 0 to {len(self.decoder)}")
        *skips, x = features
        for block in list(self.decoder)[:count]:
            x = block(x, skips.pop())
        return x

    def decoder_channels(self, blocks: int) -> int:
        """Channels that `decode(features, blocks)` returns."""
        return self.feature_channels[-1 - blocks]

    def parts(self, blocks: int) -> tuple[str, ...]:
        """Names of the submodules that `encode` and `decode(features, blocks)` run."""
        return ("encoder", *(f"decoder.{index}" for index in range(blocks)))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Logits at the size of the input."""
        return crop_like(self.head(self.decode(self.encode(x))), x)
