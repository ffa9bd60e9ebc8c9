"""Attention U-Net: gates on the skip connections (Oktay et al., 2018, arXiv:1804.03999).

The paper's network is three-dimensional. This is its two-dimensional form as it is commonly published
(`AttU_Net` of github.com/LeeJunHyun/Image_Segmentation): gates at all four levels, at the size of the skip
itself, and nothing behind the gated skip.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jcl.backbones import crop_like, pad_to_multiple

__all__ = ["AttentionUNet"]

STAGES = 4


class ConvUnits(nn.Sequential):
    """Two times Conv3x3 (padding 1) -> BatchNorm -> ReLU; no biases, here and below: the normalisation undoes them."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class Encoder(nn.Module):
    """Five blocks with a 2x2 max pooling between two."""

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


class UpConv(nn.Sequential):
    """Nearest upsampling by two, Conv3x3, BatchNorm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Upsample(scale_factor=2),
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class AttentionGate(nn.Module):
    """Additive attention (equations 1 and 2 of the paper), batch normalisation behind each 1x1 convolution.

    a = sigmoid(psi^T relu(W_x x + W_g g + b_g) + b_psi): one weight a pixel, the same for all channels. The
    biases are those of the batch normalisations.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 2, 1)
        self.of_gate = nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden))
        self.of_skip = nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden))
        self.psi = nn.Sequential(nn.Conv2d(hidden, 1, 1, bias=False), nn.BatchNorm2d(1))

    def forward(self, skip: Float[Tensor, "b c h w"], gate: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """`skip`, each pixel multiplied by its weight between 0 and 1."""
        return skip * self.psi(F.relu(self.of_gate(gate) + self.of_skip(skip))).sigmoid()


class DecoderBlock(nn.Module):
    """Up-convolution, which also gates the skip; concatenation of the two; two conv units."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = UpConv(in_channels, out_channels)
        self.gate = AttentionGate(out_channels)
        self.units = ConvUnits(2 * out_channels, out_channels)

    def forward(self, x: Float[Tensor, "b c h w"], skip: Float[Tensor, "b s H W"]) -> Float[Tensor, "b s H W"]:
        up = self.up(x)
        return self.units(torch.cat([self.gate(skip, up), up], dim=1))


class AttentionUNet(nn.Module):
    """Encoder of five blocks, decoder of four with an attention gate on each skip, and a 1x1 head.

    Channels are `width`, 2, 4, 8 and 16 times it (64 to 1024 as published). The published 34.88 M parameters
    (3 input channels, 1 class) count 7,812 biases that a batch normalisation takes out again; without them
    it is the same function. Any image size is taken: it is padded with zeros to a multiple of 16, and
    `forward` crops its output back.

    Example:
        >>> net = AttentionUNet(in_channels=1, classes=4, width=8)
        >>> net(torch.zeros(2, 1, 50, 70)).shape
        torch.Size([2, 4, 50, 70])
    """

    stride = 2**STAGES
    blocks = STAGES

    def __init__(self, *, in_channels: int = 1, classes: int = 2, width: int = 64) -> None:
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
