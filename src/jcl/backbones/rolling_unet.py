"""The Rolling-Unet (Liu et al., AAAI 2024, ojs.aaai.org/index.php/AAAI/article/view/28173).

In the deep levels each channel is rolled along height or width by a step of its own, so that one linear map over the
channels sees positions all along a line. Layers and their sizes are those of the authors' program,
github.com/Jiaoyang45/Rolling-Unet, less its normalisations that nothing runs.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jcl.backbones._base import Backbone
from jcl.backbones._layers import ConvUnits, conv_unit, run_levels

__all__ = ["RollingUNet"]

LEVELS = 4
HEIGHT, WIDTH = 1, 2
"""Dimensions of a (b, h, w, c) tensor: deep levels keep channels last, as linear maps and layer norms take them."""


def roll_channels(x: Float[Tensor, "b h w c"], dim: int, direction: int) -> Float[Tensor, "b h w c"]:
    """Roll channel number c by `direction` * c positions along `dim`; what leaves at one end enters at the other.

    One gather does it for all channels.
    """
    length, channels = x.shape[dim], x.shape[-1]
    positions = torch.arange(length, device=x.device)[:, None]
    steps = direction * torch.arange(channels, device=x.device)
    source = (positions - steps) % length
    return x.gather(dim, (source[None, :, None] if dim == HEIGHT else source[None, None]).expand_as(x))


class Linear(nn.Linear):
    """Linear map that begins as in the authors' program: truncated normal of deviation 0.02, no bias."""

    def reset_parameters(self) -> None:
        nn.init.trunc_normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)


class Conv(nn.Conv2d):
    """Convolution that begins as in the authors' program: normal of variance 2 / fan out of a group, bias of zero."""

    def reset_parameters(self) -> None:
        fan_out = math.prod(self.kernel_size) * self.out_channels // self.groups
        nn.init.normal_(self.weight, std=math.sqrt(2 / fan_out))
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class RollingMLP(nn.Module):
    """R-MLP: roll the channels along one dimension, then mix them."""

    def __init__(self, channels: int, dim: int, direction: int) -> None:
        super().__init__()
        self.dim, self.direction = dim, direction
        self.mix = Linear(channels, channels)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        return self.mix(roll_channels(x, self.dim, self.direction))


class OrthogonalRollingMLP(nn.Sequential):
    """OR-MLP: an R-MLP along each of two dimensions, GELU between them; each is a (dimension, direction)."""

    def __init__(self, channels: int, first: tuple[int, int], second: tuple[int, int], dropout: float) -> None:
        super().__init__(
            RollingMLP(channels, *first),
            nn.GELU(),
            nn.Dropout(dropout),
            RollingMLP(channels, *second),
            nn.Dropout(dropout),
        )


class DoubleOrthogonalRollingMLP(nn.Module):
    """DOR-MLP: an OR-MLP that rolls down and right beside one that rolls left and down, then a channel mixing.

    Both OR-MLPs and the whole have residual connections.
    """

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.down_right = OrthogonalRollingMLP(channels, (HEIGHT, 1), (WIDTH, 1), dropout)
        self.left_down = OrthogonalRollingMLP(channels, (WIDTH, -1), (HEIGHT, 1), dropout)
        self.norm = nn.LayerNorm(2 * channels)
        self.mix = Linear(2 * channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        both = torch.cat([self.down_right(x) + x, self.left_down(x) + x], dim=-1)
        return self.dropout(self.mix(self.norm(both))) + x


class LongLocal(nn.Module):
    """Lo2 block: DOR-MLP for the long distance beside a depth-wise separable convolution for the local, then mixed."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.long = DoubleOrthogonalRollingMLP(channels, dropout)
        self.local = nn.Sequential(
            Conv(channels, channels, 3, padding=1, groups=channels),
            Conv(channels, channels, 1),
            nn.ReLU(inplace=True),
            nn.BatchNorm2d(channels),
        )
        self.mix = Linear(2 * channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        local = self.local(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.dropout(self.mix(torch.cat([self.long(x), local], dim=-1)))


class FeatureIncentive(nn.Module):
    """Feature incentive block: Conv3x3 -> GELU -> layer normalisation; channels come out last."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = Conv(in_channels, out_channels, 3, padding=1)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w d"]:
        return self.norm(F.gelu(self.conv(x)).permute(0, 2, 3, 1))


class LongLocalBlocks(nn.Module):
    """Lo2 block, then layer normalisation; takes channels last and gives them back first."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.block = LongLocal(channels, dropout)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b c h w"]:
        return self.norm(self.block(x)).permute(0, 3, 1, 2)


class Encoder(nn.Module):
    """Three levels of convolutions and two of Lo2 blocks, the last being the bottleneck; 2x2 max pooling between."""

    def __init__(self, in_channels: int, widths: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        first, second, third, fourth, last = widths
        self.stages = nn.ModuleList(
            [
                ConvUnits(in_channels, first),
                ConvUnits(first, second),
                ConvUnits(second, third),
                nn.Sequential(FeatureIncentive(third, fourth), LongLocalBlocks(fourth, 0.0)),
                nn.Sequential(FeatureIncentive(fourth, last), LongLocalBlocks(last, dropout)),
            ]
        )
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        return run_levels(self.stages, x, self.pool)


def upsample(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c H W"]:
    """Twice the height and width, bilinear."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear")


class DeepDecoderBlock(nn.Module):
    """Feature incentive block, upsampling, sum with the skip, Lo2 block."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.incentive = FeatureIncentive(in_channels, out_channels)
        self.stage = LongLocalBlocks(out_channels, 0.0)

    def forward(self, x: Float[Tensor, "b c h w"], skip: Float[Tensor, "b s H W"]) -> Float[Tensor, "b s H W"]:
        x = upsample(self.incentive(x).permute(0, 3, 1, 2)) + skip
        return self.stage(x.permute(0, 2, 3, 1))


class DecoderBlock(nn.Module):
    """Upsampling, sum with the skip, two conv units; `narrow` comes before and brings the channels to the skip's."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.narrow = nn.Identity() if in_channels == skip_channels else conv_unit(in_channels, skip_channels)
        self.units = ConvUnits(skip_channels, out_channels, hidden_channels=skip_channels)

    def forward(self, x: Float[Tensor, "b c h w"], skip: Float[Tensor, "b s H W"]) -> Tensor:
        return self.units(upsample(self.narrow(x)) + skip)


class RollingUNet(Backbone):
    """Three levels of convolutions, two of Lo2 blocks, decoder of four blocks with additive skips, and a 1x1 head.

    Channels are `width`, 2, 4, 8 times it, and 16 times it in the bottleneck; the paper's networks S, M and L have
    width 16, 32 and 64. Any image size is taken: it is padded with zeros to a multiple of 16, and `forward` crops its
    output back. Channels are rolled around the edges of the padded features.

    Examples:
        >>> net = RollingUNet(in_channels=1, classes=4, width=8)
        >>> net(torch.zeros(2, 1, 50, 70)).shape
        torch.Size([2, 4, 50, 70])
    """

    stride = 2**LEVELS
    blocks = LEVELS

    def __init__(self, *, in_channels: int = 1, classes: int = 2, width: int = 32, dropout: float = 0.2) -> None:
        """Set up the layers.

        Args:
            in_channels: channels of the images.
            classes: channels of the logits.
            width: channels of the first level.
            dropout: rate in the bottleneck (authors' program: 0.1, 0.2 and 0.3 for S, M and L).
        """
        super().__init__()
        self.in_channels = in_channels
        self.feature_channels = tuple(width * 2**level for level in range(LEVELS + 1))
        first, second, third, fourth, last = self.feature_channels
        final = max(width // 2, 1)
        self.encoder = Encoder(in_channels, self.feature_channels, dropout)
        self.decoder = nn.ModuleList(
            [
                DeepDecoderBlock(last, fourth),
                DecoderBlock(fourth, third, second),
                DecoderBlock(second, second, first),
                DecoderBlock(first, first, final),
            ]
        )
        self.head = nn.Conv2d(final, classes, 1)
        self._decoder_channels = (last, fourth, second, first, final)

    def decoder_channels(self, blocks: int) -> int:
        """Channels that `decode(features, blocks)` returns: width times 16, 8, 2, 1 and a half."""
        return self._decoder_channels[blocks]
