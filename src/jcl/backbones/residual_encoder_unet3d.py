"""nnU-Net's U-Net with a residual encoder (Isensee et al., 2024, arXiv:2404.09556), in three dimensions."""

import math
from collections.abc import Sequence

from jcl.backbones._nnunet import ResidualEncoder, UNet

__all__ = ["ResidualEncoderUNet3D"]

ISOTROPIC = ((2, 2, 2),) * 4


class ResidualEncoderUNet3D(UNet):
    """Levels of residual blocks, as nnU-Net sets `ResidualEncoderUNet` in three dimensions.

    The levels have 1, 3, 4, 6 and 6 of them. Kernels are 3 x 3 x 3 throughout, where its planner has flat ones for
    thick slices.

    Channels are `width`, twice those of the level before at each that follows, and 10 times it at the most (nnU-Net: 32
    and 320). Parameters have the names and shapes that the class has in the package dynamic-network-architectures (see
    `jcl.backbones._nnunet`).

    Args:
        in_channels: of the blocks.
        classes: of the logits.
        width: channels of the first level.
        strides: by how much each level divides slices, rows and columns, shallow to deep; 1 or 2 (see
            `jcl.data.block_plan`).

    Example:
        >>> import torch
        >>> net = ResidualEncoderUNet3D(in_channels=1, classes=4, width=2, strides=((1, 2, 2), (2, 2, 2)))
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
        levels = tuple((level[0], level[1], level[2]) for level in strides)
        super().__init__(
            ResidualEncoder, in_channels=in_channels, classes=classes, width=width, strides=levels, units=1
        )
        self.strides = levels
        self.stride = max(math.prod(level[axis] for level in levels) for axis in range(3))
