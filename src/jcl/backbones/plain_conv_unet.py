"""The U-Net that nnU-Net trains (Isensee et al., 2021, arXiv:1904.08128), in the layout of its weights."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jcl.backbones._base import Backbone, crop_like, encode_padded
from jcl.backbones._layers import draw_he, run_levels

__all__ = ["PlainConvUNet"]

LEVELS = 5


class ConvUnit(nn.Module):
    """Conv3x3 (padding 1, bias) -> InstanceNorm -> LeakyReLU (slope 0.01)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        self.norm = nn.InstanceNorm2d(out_channels, eps=1e-5, affine=True)
        self.nonlin = nn.LeakyReLU(0.01, inplace=True)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        return self.nonlin(self.norm(self.conv(x)))


class ConvUnits(nn.Module):
    """Two conv units; the first may halve height and width."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            ConvUnit(in_channels, out_channels, stride), ConvUnit(out_channels, out_channels, stride=1)
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        return self.convs(x)


class Encoder(nn.Module):
    """Five levels; each but the first begins with a strided convolution."""

    def __init__(self, in_channels: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            *(
                nn.Sequential(ConvUnits(before, after, stride=2 if level else 1))
                for level, (before, after) in enumerate(zip((in_channels, *channels), channels, strict=False))
            )
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        return run_levels(self.stages, x)


class Decoder(nn.Module):
    """Four times ConvTranspose2x2 (stride 2), concatenation with the skip, two conv units; then a 1x1 head."""

    def __init__(self, classes: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        steps = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.stages = nn.ModuleList(ConvUnits(2 * skip, skip) for _, skip in steps)
        self.transpconvs = nn.ModuleList(nn.ConvTranspose2d(below, skip, 2, stride=2) for below, skip in steps)
        self.seg_layers = nn.ModuleDict({str(len(steps) - 1): nn.Conv2d(channels[0], classes, 1)})


class PlainConvUNet(Backbone):
    """Encoder of five levels and decoder of four blocks, as nnU-Net's planner sets `PlainConvUNet` in two dimensions.

    Channels are `width`, 2, 4, 8, 16 times it; with width 32 they are the planner's 32 to 512. Parameters have the
    names and shapes that the class of that name has in the package dynamic-network-architectures (0.4), less what is
    there twice: its state dict repeats `X.conv` and `X.norm` as `X.all_modules.0` and `X.all_modules.1`, and all of
    `encoder` under `decoder.encoder`. Of its `decoder.seg_layers`, only the last is built, since the others are for
    deep supervision alone: nnU-Net draws all of them anew when it loads pre-trained weights.

    Any image size is taken: it is padded with zeros to a multiple of 16, and `forward` crops its output back.

    Examples:
        >>> net = PlainConvUNet(in_channels=1, classes=4, width=8)
        >>> net(torch.zeros(2, 1, 50, 70)).shape
        torch.Size([2, 4, 50, 70])
    """

    stride = 2 ** (LEVELS - 1)
    blocks = LEVELS - 1

    first_weights = staticmethod(draw_he)

    def __init__(self, *, in_channels: int = 1, classes: int = 2, width: int = 32) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.feature_channels = tuple(width * 2**level for level in range(LEVELS))
        self.encoder = Encoder(in_channels, self.feature_channels)
        self.decoder = Decoder(classes, self.feature_channels)
        self.apply(self.first_weights)  # as nnU-Net does

    def encode(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """As in `Backbone`; a bottleneck of a single pixel is normalised with zeros beside it."""
        return encode_padded(self.encoder, x, self.stride)

    def submodule_names(self, blocks: int) -> tuple[str, ...]:
        """A block of the decoder is a transposed convolution and convolutions."""
        halves = (f"decoder.{half}.{index}" for index in range(blocks) for half in ("transpconvs", "stages"))
        return ("encoder", *halves)

    def logits(self, features: list[Tensor], like: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """As in `Backbone`, by the head of the last block."""
        head = self.decoder.seg_layers[str(self.blocks - 1)]
        return crop_like(head(self.decode(features)), like)

    def _decode_block(self, index: int, x: Tensor, skip: Tensor | None) -> Tensor:
        assert skip is not None
        return self.decoder.stages[index](torch.cat([self.decoder.transpconvs[index](x), skip], dim=1))
