"""Convolution units and the encoder that several networks have in common."""

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["ConvUnits", "PooledEncoder", "conv_unit", "run_levels"]

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


def run_levels(levels: Iterable[nn.Module], x: Tensor, pool: nn.Module | None = None) -> list[Tensor]:
    """Output of every level, each called with that of the one before, behind `pool` if there is one."""
    features: list[Tensor] = []
    for level in levels:
        x = level(pool(x) if pool is not None and features else x)
        features.append(x)
    return features
