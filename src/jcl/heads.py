"""Small networks between a backbone and a loss."""

from jaxtyping import Float
from torch import Tensor, nn


class InstanceProjector(nn.Sequential):
    """AdaptiveAvgPool -> Flatten -> Linear -> ReLU -> Linear (JCL paper, appendix A).

    Input (b, in_channels, h, w), output (b, out_channels). The hidden layer has `in_channels`
    units, which the paper leaves open.
    """

    def __init__(self, in_channels: int, out_channels: int = 128) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(in_channels, in_channels),
            nn.ReLU(inplace=True),
            nn.Linear(in_channels, out_channels),
        )


class PixelProjector(nn.Sequential):
    """Two times Conv3x3 (padding 1) -> BatchNorm -> LeakyReLU (JCL paper, appendix A).

    Input (b, in_channels, h, w), output (b, out_channels, h, w). The hidden layer has
    `out_channels` channels, which the paper leaves open.
    """

    def __init__(self, in_channels: int, out_channels: int = 128) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(inplace=True),
        )

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """One projection a pixel."""
        return super().forward(input)
