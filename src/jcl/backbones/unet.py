"""The U-Net of the JCL paper (appendix A; Ronneberger et al., 2015, arXiv:1505.04597)."""

from torch import nn

from jcl.backbones._base import Backbone
from jcl.backbones._layers import DecoderBlock, PooledEncoder

__all__ = ["UNet"]

LEVELS = 4


class UNet(Backbone):
    """Encoder of four blocks and a center, decoder of four blocks, and a 1x1 head.

    Channels are `width`, 2, 4, 8 times it, and 16 times it in the center (paper: width 32, 8.63 M
    parameters with the projectors). Any image size is taken: it is padded with zeros to a multiple
    of 16, and `forward` crops its output back.

    Examples:
        >>> import torch
        >>> net = UNet(in_channels=1, classes=4, width=8)
        >>> net(torch.zeros(2, 1, 50, 70)).shape
        torch.Size([2, 4, 50, 70])
    """

    stride = 2**LEVELS
    blocks = LEVELS

    def __init__(self, *, in_channels: int = 1, classes: int = 2, width: int = 32) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.feature_channels = tuple(width * 2**level for level in range(LEVELS + 1))
        self.encoder = PooledEncoder(in_channels, self.feature_channels, nn.LeakyReLU)
        self.decoder = nn.ModuleList(
            DecoderBlock(width * 2 ** (level + 1), width * 2**level) for level in reversed(range(LEVELS))
        )
        self.head = nn.Conv2d(width, classes, 1)
