"""Convolution units, encoder, decoder block and first weights that several networks have in common."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["ConvUnits", "DecoderBlock", "PooledEncoder", "conv_unit", "draw_he", "run_levels"]

Activation = type[nn.ReLU] | type[nn.LeakyReLU]


def conv_unit(in_channels: int, out_channels: int, activation: Activation = nn.ReLU) -> nn.Sequential:
    """Conv3x3 (padding 1) -> BatchNorm -> activation; no bias, since the normalisation takes it out again."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        activation(inplace=True),
    )


class ConvUnits(nn.Sequential):
    """The layers of two convolution units; `hidden_channels` lie between them (None: as many as come out)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int | None = None,
        activation: Activation = nn.ReLU,
    ) -> None:
        hidden = hidden_channels or out_channels
        super().__init__(*conv_unit(in_channels, hidden, activation), *conv_unit(hidden, out_channels, activation))


class PooledEncoder(nn.Module):
    """Convolution units with a 2x2 max pooling between two levels; each level has twice the channels of that before."""

    def __init__(self, in_channels: int, channels: Iterable[int], activation: Activation = nn.ReLU) -> None:
        super().__init__()
        channels = tuple(channels)
        self.blocks = nn.ModuleList(
            ConvUnits(before, after, activation=activation)
            for before, after in zip((in_channels, *channels), channels, strict=False)
        )
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        return run_levels(self.blocks, x, self.pool)


class DecoderBlock(nn.Module):
    """ConvTranspose2x2 (stride 2), concatenation with the skip behind it, two conv units."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.units = ConvUnits(2 * out_channels, out_channels, activation=nn.LeakyReLU)

    def forward(self, x: Float[Tensor, "b c h w"], skip: Float[Tensor, "b s H W"]) -> Tensor:
        return self.units(torch.cat([self.up(x), skip], dim=1))


def draw_he(module: nn.Module) -> None:
    """First weights of a convolution by He et al. (2015) for the slope 0.01, biases 0; to be given to `apply`."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Conv3d, nn.ConvTranspose3d)):
        nn.init.kaiming_normal_(module.weight, a=0.01)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def run_levels(levels: Iterable[nn.Module], x: Tensor, pool: nn.Module | None = None) -> list[Tensor]:
    """Output of every level, each called with that of the one before, behind `pool` if there is one."""
    features: list[Tensor] = []
    for level in levels:
        x = level(pool(x) if pool is not None and features else x)
        features.append(x)
    return features
