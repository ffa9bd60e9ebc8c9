"""Attention U-Net: gates on the skip connections (Oktay et al., 2018, arXiv:1804.03999).

The paper's network is three-dimensional. This is its two-dimensional form as it is commonly published
(`AttU_Net` of github.com/LeeJunHyun/Image_Segmentation): gates at all four levels, at the size of the skip
itself, and nothing behind the gated skip.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jcl.backbones._base import Backbone
from jcl.backbones._layers import ConvUnits, PooledEncoder, conv_unit

__all__ = ["AttentionUNet"]

LEVELS = 4


class UpConv(nn.Sequential):
    """Nearest upsampling by two, Conv3x3, BatchNorm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(nn.Upsample(scale_factor=2), *conv_unit(in_channels, out_channels))


class AttentionGate(nn.Module):
    """Additive attention (equations 1 and 2 of the paper), batch normalisation behind each 1x1 convolution.

    a = sigmoid(psi^T relu(W_x x + W_g g + b_g) + b_psi): one weight per pixel, the same for all channels. The
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


class AttentionUNet(Backbone):
    """Encoder of five blocks, decoder of four with an attention gate on each skip, and a 1x1 head.

    Channels are `width`, 2, 4, 8 and 16 times it (64 to 1024 as published). The published 34.88 M parameters
    (3 input channels, 1 class) count 7,812 biases that a batch normalisation takes out again; without them
    it is the same function. Any image size is taken: it is padded with zeros to a multiple of 16, and
    `forward` crops its output back.

    Examples:
        >>> net = AttentionUNet(in_channels=1, classes=4, width=8)
        >>> net(torch.zeros(2, 1, 50, 70)).shape
        torch.Size([2, 4, 50, 70])
    """

    stride = 2**LEVELS
    blocks = LEVELS

    def __init__(self, *, in_channels: int = 1, classes: int = 2, width: int = 64) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.feature_channels = tuple(width * 2**level for level in range(LEVELS + 1))
        self.encoder = PooledEncoder(in_channels, self.feature_channels)
        self.decoder = nn.ModuleList(
            DecoderBlock(width * 2 ** (level + 1), width * 2**level) for level in reversed(range(LEVELS))
        )
        self.head = nn.Conv2d(width, classes, 1)
