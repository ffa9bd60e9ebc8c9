"""What layers of a network compute on the kernels, and the rest as PyTorch does."""

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional as F

from jcl.distributed.comm import world_size
from jcl.distributed.sync_batch_norm import SharedBatchNorm, update_running_statistics
from jcl.kernels import direct
from jcl.kernels.affine import Moments
from jcl.kernels.columns import convolve_columns
from jcl.kernels.convolution import convolve, convolve_normalised, convolve_with_moments
from jcl.kernels.library import multiplies_bfloat16
from jcl.kernels.normalisation import moments_of, normalise
from jcl.kernels.pooling import pool

__all__ = ["Link", "chain", "convolution", "max_pooling", "normalisation", "sequence"]

LEAST_PIXELS = {torch.float32: 256, torch.bfloat16: 64}
"""Of all slices together, below which making the weights ready takes longer than it saves."""

MOST_WASTE = {torch.float32: 2.0, torch.bfloat16: 4.0}
"""Outputs that are computed for one that is wanted: with tiles from 4 on nothing is gained."""

LARGE = 256 * 512
"""Weights' channels, inputs times outputs, from which one product of matrices is faster where tiles are not."""

BatchNorm = nn.BatchNorm2d | SharedBatchNorm


class Link(NamedTuple):
    """A layer of a sequence, and the (leaky) ReLU behind it that it computes too."""

    layer: nn.Module
    activation: nn.Module | None = None

    @property
    def slope(self) -> float:
        """Of negative values: 0 for ReLU, 1 for no activation."""
        if self.activation is None:
            return 1.0
        return self.activation.negative_slope if isinstance(self.activation, nn.LeakyReLU) else 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """Layer and activation; one by one where somebody waits for what either gets or gives."""
        if self.activation is None:
            return self.layer(x)
        if self.is_watched:
            return self.activation(self.layer(x))
        return self.layer(x, self.slope)

    @property
    def is_watched(self) -> bool:
        """Whether there are hooks on them."""
        return _is_watched(self.layer) or (self.activation is not None and _is_watched(self.activation))


def convolution(layer: nn.Conv2d, input: Float[Tensor, "b i h w"], slope: float = 1.0) -> Float[Tensor, "b o h w"]:
    """The convolution of the input, activated, computed in the way that is fastest for its input."""
    x = _as_taken(input)
    if x is not None and _suits(x, layer):
        return convolve(x, layer.weight, layer.bias, slope)
    if input.shape[-2:] == (1, 1):
        y = F.linear(input.flatten(1), layer.weight[:, :, 1, 1], layer.bias)[:, :, None, None]  # the rest meets padding
    elif x is not None and x.dtype == torch.float32 and layer.in_channels * layer.out_channels >= LARGE:
        y = convolve_columns(input, layer.weight)
        y = y if layer.bias is None else y + layer.bias[:, None, None]
    else:
        y = nn.Conv2d.forward(layer, input)
    return y if slope == 1 else F.leaky_relu(y, slope)


def normalisation(layer: BatchNorm, input: Float[Tensor, "b c ..."], slope: float = 1.0) -> Float[Tensor, "b c ..."]:
    """Normalise over all processes, activate, and update the running statistics."""
    if not (layer.training and input.ndim == 4 and _is_known(input) and input.numel() > input.shape[1]):
        y = type(layer).forward(cast("Any", layer), input)
        return y if slope == 1 else F.leaky_relu(y, slope)
    x = input.contiguous(memory_format=torch.channels_last)
    return _normalised(x, layer, slope, moments_of(x))


def max_pooling(lanes: int, input: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b c h//2 w//2"]:
    """The maxima of 2 x 2 pixels."""
    suits = input.ndim == 4 and _is_known(input) and input.shape[1] % lanes == 0
    return pool(input) if suits and min(input.shape[2:]) > 1 else F.max_pool2d(input, 2)


def sequence(links: Sequence[Link], input: Tensor) -> Tensor:
    """One layer after the other, each with its activation."""
    return reduce(lambda x, link: link(x), links, input)


def chain(
    links: Sequence[tuple[Link, Link]], on_tiles: Sequence[bool], input: Float[Tensor, "b i h w"]
) -> Float[Tensor, "b o h w"]:
    """3 x 3 convolutions, each with its batch normalisation and activation behind it.

    In training what lies between two convolutions is made where it is read, and normalisations get their moments from
    the convolution before them.

    Args:
        links: each convolution and its normalisation.
        on_tiles: which convolutions can do that.
        input: what the first convolution gets.
    """
    taken = _as_taken(input)
    alone = not any(link.is_watched for pair in links for link in pair)
    several = input.numel() > input.shape[1]  # else the layers say that one value has no variance
    if taken is None or not (alone and several and all(norm.layer.training for _, norm in links)):
        return sequence([link for pair in links for link in pair], input)
    x, pending = taken, None  # a normalisation of x that is still to be done, and the moments of x
    for (link, norm), able in zip(links, on_tiles, strict=True):
        tiles = able and _suits(x, cast("nn.Conv2d", link.layer))
        if pending is not None and not tiles:
            x, pending = _normalised(x, *pending), None
        if not tiles:
            x = link(x).contiguous(memory_format=torch.channels_last)
            moments = moments_of(x)
        elif pending is None:
            x, moments = convolve_with_moments(x, _weight(link.layer))
        else:
            x, moments = _convolved(x, *pending, _weight(link.layer))
        pending = cast("BatchNorm", norm.layer), norm.slope, moments
    return x if pending is None else _normalised(x, *pending)


def _normalised(
    x: Float[Tensor, "b c h w"], layer: BatchNorm, slope: float, moments: Moments
) -> Float[Tensor, "b c h w"]:
    """By moments that are known, which the running statistics follow, and activated."""
    _update(layer, moments, x)
    return normalise(x, moments, layer.weight, layer.bias, epsilon=layer.eps, slope=slope)


def _convolved(
    x: Float[Tensor, "b c h w"], layer: BatchNorm, slope: float, moments: Moments, weight: Float32[Tensor, "o c 3 3"]
) -> tuple[Float[Tensor, "b o h w"], Moments]:
    """The convolution of what `_normalised` gives, with its moments, without the step between in memory."""
    _update(layer, moments, x)
    return convolve_normalised(x, moments, layer.weight, layer.bias, weight, epsilon=layer.eps, slope=slope)


def _update(layer: BatchNorm, moments: Moments, x: Tensor) -> None:
    values = world_size() * x.numel() // x.shape[1]
    update_running_statistics(layer, moments.mean.float(), moments.variance.float(), values)


def _weight(convolution: nn.Module) -> Tensor:
    return cast("nn.Conv2d", convolution).weight


def _is_watched(layer: nn.Module) -> bool:
    """Whether somebody waits for what the layer itself gets or gives."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks)  # pyright: ignore[reportPrivateUsage]


def _is_known(x: Tensor) -> bool:
    """Whether it is of a type and on a device that the kernels know."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)


def _as_taken(x: Tensor) -> Tensor | None:
    """As the kernels' convolutions take it: in bfloat16 where that is the precision; None where they cannot."""
    if not torch.is_autocast_enabled("cpu"):
        return x if x.device.type == "cpu" and x.dtype == torch.float32 else None
    wanted = torch.get_autocast_dtype("cpu") == torch.bfloat16 and multiplies_bfloat16()
    return x.to(torch.bfloat16) if wanted and _is_known(x) else None


def _suits(x: Tensor, layer: nn.Conv2d) -> bool:
    """Whether there are pixels enough, and not too many more that would be computed for nothing."""
    h, w = x.shape[-2:]
    if x.dtype == torch.bfloat16:
        computed = (h + 2) * (w + 2)
        if layer.in_channels % direct.CHANNELS or layer.out_channels % direct.CHANNELS:
            return False
    else:
        computed = -(-h // 4) * -(-w // 4) * 16
    return bool(x.shape[0] * h * w >= LEAST_PIXELS[x.dtype] and computed <= MOST_WASTE[x.dtype] * h * w)
