"""The U-Net that the authors of JCL and PCL train (their programs github.com/stevezs315/MACL, dewenzeng/positional_cl).

It is `unet` but for three things: the centre has no normalisation, its activation is ReLU, and the first weights are
drawn as by He et al. (2015). `jcl import` brings their checkpoints into its layout.
"""

from torch import nn

from jcl.backbones._base import Backbone
from jcl.backbones._layers import DecoderBlock, PooledEncoder, draw_he

__all__ = ["MACLUNet"]

LEVELS = 4


class MACLUNet(Backbone):
    """Encoder of four blocks and a centre, decoder of four blocks, and a 1x1 head without bias.

    Channels are `width`, 2, 4, 8 times it, and 16 times it in the centre, which is Conv3x3 -> ReLU twice. The biases
    that the authors' convolutions have before a batch normalisation are left out, since it takes them out again. Any
    image size is taken: it is padded with zeros to a multiple of 16, and `forward` crops its output back.

    Examples:
        >>> import torch
        >>> net = MACLUNet(in_channels=1, classes=4, width=8)
        >>> net(torch.zeros(2, 1, 50, 70)).shape
        torch.Size([2, 4, 50, 70])
    """

    stride = 2**LEVELS
    blocks = LEVELS

    first_weights = staticmethod(draw_he)

    def __init__(self, *, in_channels: int = 1, classes: int = 2, width: int = 32) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.feature_channels = tuple(width * 2**level for level in range(LEVELS + 1))
        *levels, centre = self.feature_channels
        self.encoder = PooledEncoder(in_channels, levels, nn.LeakyReLU)
        self.encoder.blocks.append(
            nn.Sequential(
                nn.Conv2d(levels[-1], centre, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(centre, centre, 3, padding=1),
                nn.ReLU(inplace=True),
            )
        )
        self.decoder = nn.ModuleList(
            DecoderBlock(width * 2 ** (level + 1), width * 2**level) for level in reversed(range(LEVELS))
        )
        self.head = nn.Conv2d(width, classes, 1, bias=False)
        self.apply(self.first_weights)
