"""U-KAN, a U-Net with Kolmogorov-Arnold layers at its deepest levels (Li et al., AAAI 2025, arXiv:2406.02918)."""

from typing import ClassVar

from jcl.backbones._tokenised import TokenisedUNet

__all__ = ["UKAN"]


class UKAN(TokenisedUNet):
    """Encoder of three convolutional and two tokenised levels, decoder of five blocks, and a 1x1 head.

    Channels of the levels are 1, 2, 8, 10 and 16 times `width`. At width 16 they are those of the paper's network (128,
    160 and 256 in the deepest three; M in the authors' program), at 32 those of its wider one (L). For its smaller one
    (S), whose levels are in other proportions, see `ukan_s`.

    Examples:
        >>> import torch
        >>> net = UKAN(in_channels=1, classes=4, width=8)
        >>> net(torch.zeros(2, 1, 50, 70)).shape
        torch.Size([2, 4, 50, 70])
    """

    times: ClassVar[tuple[int, ...]] = (1, 2, 8, 10, 16)

    def __init__(self, *, in_channels: int = 1, classes: int = 2, width: int = 16) -> None:
        super().__init__(in_channels=in_channels, classes=classes, width=width)
