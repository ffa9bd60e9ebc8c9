"""Parts of the networks that nnU-Net trains, of two and of three dimensions, with the names of their weights there.

They are those of the package dynamic-network-architectures (0.4), less what is there twice: its state dict repeats
`X.conv` and `X.norm` as `X.all_modules.0` and `X.all_modules.1`, and all of `encoder` under `decoder.encoder`. Of its
`decoder.seg_layers`, only the last is built, since the others are for deep supervision alone: nnU-Net draws all of them
anew when it loads pre-trained weights. Kernels have a side of 3 on all levels.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jcl.backbones._base import Backbone, crop_like, encode_padded, multiples_of
from jcl.backbones._layers import draw_he, run_levels

__all__ = ["ConvUnits", "Decoder", "PlainEncoder", "ResidualBlock", "ResidualEncoder", "UNet", "draw_first", "widths"]

Stride = tuple[int, ...]

Layers = Mapping[int, Callable[..., nn.Module]]
"""A layer for each number of sides."""

CONV: Layers = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: Layers = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM: Layers = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
POOL: Layers = {2: nn.AvgPool2d, 3: nn.AvgPool3d}

BLOCKS = (1, 3, 4, 6, 6, 6, 6, 6, 6)
"""Residual blocks of each level, as nnU-Net's planner for residual encoders has them."""

MOST = 10
"""Channels of a level of three dimensions, in widths: nnU-Net's 320 of 32."""


def widths(width: int, levels: int, dimensions: int) -> tuple[int, ...]:
    """Channels of each level: twice those of the one before; of three dimensions no more than 10 times the first.

    Example:
        >>> widths(32, 5, 2), widths(32, 5, 3)
        ((32, 64, 128, 256, 512), (32, 64, 128, 256, 320))
    """
    most = MOST if dimensions == 3 else 2**levels
    return tuple(width * min(2**level, most) for level in range(levels))


class ConvUnit(nn.Module):
    """Conv (kernel 3 and padding 1, or kernel 1) -> InstanceNorm, and, where it is active, LeakyReLU (slope 0.01)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: Stride,
        *,
        kernel: int = 3,
        bias: bool = True,
        active: bool = True,
    ) -> None:
        super().__init__()
        sides = len(stride)
        self.conv = CONV[sides](in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=bias)
        self.norm = NORM[sides](out_channels, eps=1e-5, affine=True)
        self.nonlin = nn.LeakyReLU(0.01, inplace=True) if active else nn.Identity()

    def forward(self, x: Float[Tensor, "b c *space"]) -> Tensor:
        return self.nonlin(self.norm(self.conv(x)))


class ConvUnits(nn.Module):
    """Conv units; the first may divide the sides."""

    def __init__(self, in_channels: int, out_channels: int, stride: Stride, count: int = 2) -> None:
        super().__init__()
        one = (1,) * len(stride)
        self.convs = nn.Sequential(
            ConvUnit(in_channels, out_channels, stride),
            *(ConvUnit(out_channels, out_channels, one) for _ in range(count - 1)),
        )

    def forward(self, x: Float[Tensor, "b c *space"]) -> Tensor:
        return self.convs(x)


class ResidualBlock(nn.Module):
    """Two conv units, the second not active, and beside them what comes in, pooled and projected where it has to be."""

    def __init__(self, in_channels: int, out_channels: int, stride: Stride) -> None:
        super().__init__()
        sides, one = len(stride), (1,) * len(stride)
        self.conv1 = ConvUnit(in_channels, out_channels, stride)
        self.conv2 = ConvUnit(out_channels, out_channels, one, active=False)
        self.nonlin2 = nn.LeakyReLU(0.01, inplace=True)
        beside: list[nn.Module] = [] if stride == one else [POOL[sides](stride, stride)]
        if in_channels != out_channels:
            beside.append(ConvUnit(in_channels, out_channels, one, kernel=1, bias=False, active=False))
        self.skip = nn.Sequential(*beside)

    def forward(self, x: Float[Tensor, "b c *space"]) -> Tensor:
        return self.nonlin2(self.conv2(self.conv1(x)) + self.skip(x))


class ResidualLevel(nn.Module):
    """Residual blocks; the first may divide the sides."""

    def __init__(self, in_channels: int, out_channels: int, stride: Stride, count: int) -> None:
        super().__init__()
        one = (1,) * len(stride)
        self.blocks = nn.Sequential(
            ResidualBlock(in_channels, out_channels, stride),
            *(ResidualBlock(out_channels, out_channels, one) for _ in range(count - 1)),
        )

    def forward(self, x: Float[Tensor, "b c *space"]) -> Tensor:
        return self.blocks(x)


class PlainEncoder(nn.Module):
    """Levels of two conv units; each but the first begins with a strided convolution."""

    def __init__(self, in_channels: int, channels: Sequence[int], strides: Sequence[Stride]) -> None:
        super().__init__()
        steps = zip((in_channels, *channels[:-1]), channels, _of_levels(strides), strict=True)
        self.stages = nn.Sequential(*(nn.Sequential(ConvUnits(*step)) for step in steps))

    def forward(self, x: Float[Tensor, "b c *space"]) -> list[Tensor]:
        return run_levels(self.stages, x)


class ResidualEncoder(nn.Module):
    """A conv unit (the stem), then levels of residual blocks; each but the first begins with a strided one."""

    def __init__(self, in_channels: int, channels: Sequence[int], strides: Sequence[Stride]) -> None:
        super().__init__()
        one = (1,) * len(strides[0])
        self.stem = ConvUnits(in_channels, channels[0], one, count=1)
        steps = zip((channels[0], *channels[:-1]), channels, _of_levels(strides), BLOCKS, strict=False)
        self.stages = nn.Sequential(*(ResidualLevel(*step) for step in steps))

    def forward(self, x: Float[Tensor, "b c *space"]) -> list[Tensor]:
        return run_levels(self.stages, self.stem(x))


class Decoder(nn.Module):
    """A transposed convolution, concatenation with the skip and conv units for each level; then a head of kernel 1."""

    def __init__(self, classes: int, channels: Sequence[int], strides: Sequence[Stride], units: int) -> None:
        super().__init__()
        one, sides = (1,) * len(strides[0]), len(strides[0])
        steps = list(zip(channels[:0:-1], channels[-2::-1], strides[::-1], strict=True))
        self.stages = nn.ModuleList(ConvUnits(2 * skip, skip, one, units) for _, skip, _ in steps)
        self.transpconvs = nn.ModuleList(
            TRANSPOSED[sides](below, skip, stride, stride=stride) for below, skip, stride in steps
        )
        self.seg_layers = nn.ModuleDict({str(len(steps) - 1): CONV[sides](channels[0], classes, 1)})


def _of_levels(strides: Sequence[Stride]) -> list[Stride]:
    """The first level has the size of the image."""
    return [(1,) * len(strides[0]), *strides]


def draw_first(module: nn.Module) -> None:
    """First weights as nnU-Net draws them: by He et al. (2015), and a residual block adds nothing at first."""
    draw_he(module)
    if isinstance(module, ResidualBlock):
        nn.init.zeros_(module.conv2.norm.get_parameter("weight"))
        nn.init.zeros_(module.conv2.norm.get_parameter("bias"))


class UNet(Backbone):
    """What is the same for all networks of these parts; they set `dimensions` and give encoder and strides."""

    first_weights = staticmethod(draw_first)

    def __init__(
        self,
        encoder: type[PlainEncoder] | type[ResidualEncoder],
        *,
        in_channels: int,
        classes: int,
        width: int,
        strides: Sequence[Stride],
        units: int,
    ) -> None:
        """Build the network.

        Args:
            encoder: its class.
            in_channels: of the images.
            classes: of the logits.
            width: channels of the first level.
            strides: by how much each level divides each side, shallow to deep.
            units: of each decoder block.
        """
        super().__init__()
        self.in_channels, self.blocks = in_channels, len(strides)
        self.feature_channels = widths(width, self.blocks + 1, self.dimensions)
        self.encoder = encoder(in_channels, self.feature_channels, strides)
        self.decoder = Decoder(classes, self.feature_channels, strides, units)
        self.apply(self.first_weights)  # as nnU-Net does

    def encode(self, x: Float[Tensor, "b c *space"]) -> list[Tensor]:
        """As in `Backbone`; a bottleneck of a single value is normalised with zeros beside it."""
        return encode_padded(self.encoder, x, multiples_of(self))

    def submodule_names(self, blocks: int) -> tuple[str, ...]:
        """A block of the decoder is a transposed convolution and convolutions."""
        halves = (f"decoder.{half}.{index}" for index in range(blocks) for half in ("transpconvs", "stages"))
        return ("encoder", *halves)

    def logits(self, features: list[Tensor], like: Float[Tensor, "b c *space"]) -> Float[Tensor, "b k *space"]:
        """As in `Backbone`, by the head of the last block."""
        head = self.decoder.seg_layers[str(self.blocks - 1)]
        return crop_like(head(self.decode(features)), like)

    def _decode_block(self, index: int, x: Tensor, skip: Tensor | None) -> Tensor:
        assert skip is not None
        return self.decoder.stages[index](torch.cat([self.decoder.transpconvs[index](x), skip], dim=1))
