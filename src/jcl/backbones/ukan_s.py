"""U-KAN of size S: `ukan` with the channels of the smallest network of its authors' program (arXiv:2406.02918)."""

from typing import ClassVar

from jcl.backbones._tokenised import TokenisedUNet

__all__ = ["UKANS"]


class UKANS(TokenisedUNet):
    """Encoder of three convolutional and two tokenised levels, decoder of five blocks, and a 1x1 head.

    Channels of the levels are 1, 2, 8, 12 and 16 times `width`, at width 8 those of the program's S: 8, 16, 64, 96,
    128.

    Example:
        >>> UKANS(in_channels=1, classes=4, width=8).feature_channels
        (8, 16, 64, 96, 128)
    """

    times: ClassVar[tuple[int, ...]] = (1, 2, 8, 12, 16)

    def __init__(self, *, in_channels: int = 1, classes: int = 2, width: int = 8) -> None:
        super().__init__(in_channels=in_channels, classes=classes, width=width)
