"""The U-Net of the JCL paper in three dimensions, each side halved as the spacing asks (Isensee et al., 2021)."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jcl.backbones._base import Backbone

__all__ = ["UNet3D"]

ISOTROPIC = ((2, 2, 2),) * 4
"""The paper's four levels, with cubes in the place of squares."""


def conv_units(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two times Conv3x3x3 (padding 1) -> BatchNorm -> LeakyReLU; no bias, since the normalisation takes it out."""
    layers: list[nn.Module] = []
    for before in (in_channels, out_channels):
        layers += [
            nn.Conv3d(before, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm3d(out_channels),
            nn.LeakyReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class Encoder(nn.Module):
    """Convolution units with a max pooling between two levels, over as many voxels as its stride has."""

    def __init__(self, in_channels: int, channels: tuple[int, ...], strides: Sequence[tuple[int, int, int]]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(map(conv_units, (in_channels, *channels[:-1]), channels))
        self.pools = nn.ModuleList(nn.MaxPool3d(stride) for stride in strides)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> list[Tensor]:
        features = [self.blocks[0](x)]
        for pool, block in zip(self.pools, self.blocks[1:], strict=True):
            features.append(block(pool(features[-1])))
        return features


class DecoderBlock(nn.Module):
    """ConvTranspose with kernel and stride of the level, concatenation with the skip behind it, two conv units."""

    def __init__(self, in_channels: int, out_channels: int, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(in_channels, out_channels, stride, stride=stride)
        self.units = conv_units(2 * out_channels, out_channels)

    def forward(self, x: Float[Tensor, "b c d h w"], skip: Float[Tensor, "b s D H W"]) -> Tensor:
        return self.units(torch.cat([self.up(x), skip], dim=1))


class UNet3D(Backbone):
    """Encoder of a block a level and a center, as many decoder blocks, and a 1x1x1 head.

    Channels are `width`, and twice those of the level before at each that follows. A block of any size is taken: its
    sides are padded with zeros to multiples of the strides' products, and `forward` crops its output back.

    Args:
        in_channels: of the blocks.
        classes: of the logits.
        width: channels of the first level.
        strides: by how much each level divides slices, rows and columns, shallow to deep; 1 or 2 (see
            `jcl.data.block_plan`). The default has as many levels as the paper's network.

    Example:
        >>> net = UNet3D(in_channels=1, classes=4, width=2, strides=((1, 2, 2), (2, 2, 2)))
        >>> net(torch.zeros(2, 1, 5, 30, 20)).shape
        torch.Size([2, 4, 5, 30, 20])
    """

    dimensions = 3

    def __init__(
        self,
        *,
        in_channels: int = 1,
        classes: int = 2,
        width: int = 32,
        strides: Sequence[Sequence[int]] = ISOTROPIC,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.strides = tuple((level[0], level[1], level[2]) for level in strides)
        self.blocks = len(self.strides)
        self.stride = max(math.prod(level[axis] for level in self.strides) for axis in range(3))
        self.feature_channels = tuple(width * 2**level for level in range(self.blocks + 1))
        self.encoder = Encoder(in_channels, self.feature_channels, self.strides)
        self.decoder = nn.ModuleList(
            DecoderBlock(width * 2 ** (level + 1), width * 2**level, self.strides[level])
            for level in reversed(range(self.blocks))
        )
        self.head = nn.Conv3d(width, classes, 1)
