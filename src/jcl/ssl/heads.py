"""Small networks between a backbone and a loss."""

import itertools

from jaxtyping import Float
from torch import Tensor, nn


def pooled(dimensions: int) -> nn.Module:
    """The mean over all places, of slices or of blocks."""
    return nn.AdaptiveAvgPool2d(1) if dimensions == 2 else nn.AdaptiveAvgPool3d(1)


class InstanceProjector(nn.Sequential):
    """AdaptiveAvgPool -> Flatten -> Linear -> ReLU -> Linear (JCL paper, appendix A).

    Input (b, in_channels, h, w), output (b, out_channels). The hidden layer has `hidden` units (None:
    `in_channels`), which the paper leaves open. With three `dimensions` the input is (b, in_channels, d, h, w).
    """

    def __init__(
        self, in_channels: int, out_channels: int = 128, *, hidden: int | None = None, dimensions: int = 2
    ) -> None:
        hidden = hidden or in_channels
        super().__init__(
            pooled(dimensions),
            nn.Flatten(),
            nn.Linear(in_channels, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, out_channels),
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
        """One projection per pixel."""
        return super().forward(input)


class VoxelProjector(nn.Sequential):
    """`PixelProjector` for voxels, with 1x1x1 convolutions: the coarse grid of a block has few, most of them borders.

    Input (b, in_channels, d, h, w), output (b, out_channels, d, h, w).
    """

    def __init__(self, in_channels: int, out_channels: int = 128) -> None:
        super().__init__(
            nn.Conv3d(in_channels, out_channels, 1, bias=False),
            nn.BatchNorm3d(out_channels),
            nn.LeakyReLU(inplace=True),
            nn.Conv3d(out_channels, out_channels, 1, bias=False),
            nn.BatchNorm3d(out_channels),
            nn.LeakyReLU(inplace=True),
        )

    def forward(self, input: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b p d h w"]:
        """One projection per voxel."""
        return super().forward(input)


class MLP(nn.Sequential):
    """Linear -> BatchNorm -> ReLU for each hidden layer, then Linear (BYOL, arXiv:2006.07733; SwAV; SimSiam).

    Input (b, widths[0]), output (b, widths[-1]). A Linear before a normalisation has no bias: it would be taken out
    again.
    """

    def __init__(self, *widths: int, output_norm: bool = False) -> None:
        """Set up the layers.

        Args:
            widths: channels of the input, of each hidden layer, and of the output.
            output_norm: normalise the output too, without scale and shift (SimSiam, arXiv:2011.10566, section 3; the
                authors' program).
        """
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths[:-1]):
            layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
        layers.append(nn.Linear(*widths[-2:], bias=not output_norm))
        if output_norm:
            layers.append(nn.BatchNorm1d(widths[-1], affine=False))
        super().__init__(*layers)


class MLPProjector(nn.Sequential):
    """AdaptiveAvgPool -> Flatten -> `MLP`.

    Input (b, widths[0], h, w), or with three `dimensions` (b, widths[0], d, h, w); output (b, widths[-1]).
    """

    def __init__(self, *widths: int, output_norm: bool = False, dimensions: int = 2) -> None:
        super().__init__(pooled(dimensions), nn.Flatten(), MLP(*widths, output_norm=output_norm))
