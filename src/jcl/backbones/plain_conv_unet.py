"""The U-Net that nnU-Net trains (Isensee et al., 2021, arXiv:1904.08128), in the layout of its weights."""

from jcl.backbones._nnunet import PlainEncoder, UNet

__all__ = ["PlainConvUNet"]

LEVELS = 5


class PlainConvUNet(UNet):
    """Encoder of five levels and decoder of four blocks, as nnU-Net's planner sets `PlainConvUNet` in two dimensions.

    Channels are `width`, 2, 4, 8, 16 times it; with width 32 they are the planner's 32 to 512. Parameters have the
    names and shapes that the class of that name has in the package dynamic-network-architectures (see
    `jcl.backbones._nnunet`).

    Any image size is taken: it is padded with zeros to a multiple of 16, and `forward` crops its output back.

    Examples:
        >>> import torch
        >>> net = PlainConvUNet(in_channels=1, classes=4, width=8)
        >>> net(torch.zeros(2, 1, 50, 70)).shape
        torch.Size([2, 4, 50, 70])
    """

    stride = 2 ** (LEVELS - 1)
    blocks = LEVELS - 1

    def __init__(self, *, in_channels: int = 1, classes: int = 2, width: int = 32) -> None:
        strides = ((2, 2),) * self.blocks
        super().__init__(PlainEncoder, in_channels=in_channels, classes=classes, width=width, strides=strides, units=2)
