"""The U-Net with a residual encoder that nnU-Net trains (Isensee et al., 2024, arXiv:2404.09556), in its layout."""

from jcl.backbones._nnunet import ResidualEncoder, UNet

__all__ = ["ResidualEncoderUNet"]

LEVELS = 5


class ResidualEncoderUNet(UNet):
    """Encoder of five levels of 1, 3, 4, 6 and 6 residual blocks and decoder of four, as nnU-Net's planners set it.

    Channels are `width`, 2, 4, 8, 16 times it; with width 32 they are the planner's 32 to 512. Parameters have the
    names and shapes that the class of that name has in the package dynamic-network-architectures (see
    `jcl.backbones._nnunet`).

    Any image size is taken: it is padded with zeros to a multiple of 16, and `forward` crops its output back.

    Examples:
        >>> import torch
        >>> net = ResidualEncoderUNet(in_channels=1, classes=4, width=8)
        >>> net(torch.zeros(2, 1, 50, 70)).shape
        torch.Size([2, 4, 50, 70])
    """

    stride = 2 ** (LEVELS - 1)
    blocks = LEVELS - 1

    def __init__(self, *, in_channels: int = 1, classes: int = 2, width: int = 32) -> None:
        strides = ((2, 2),) * self.blocks
        super().__init__(
            ResidualEncoder, in_channels=in_channels, classes=classes, width=width, strides=strides, units=1
        )
