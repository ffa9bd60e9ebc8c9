"""Layers that compute with the kernels what they can, and the rest as PyTorch does."""

from typing import cast

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional as F

from jcl.kernels.affine import Moments, moments_of
from jcl.kernels.columns import convolve_columns
from jcl.kernels.convolution import convolve, convolve_measured, convolve_normalised
from jcl.kernels.library import load_library
from jcl.kernels.normalisation import normalise
from jcl.kernels.pooling import pool
from jcl.norms import SharedBatchNorm

__all__ = ["Chain", "Convolution", "Normalisation", "Pooling"]

LEAST_PIXELS = 400
"""Of all slices together, below which making the weights ready for tiles takes longer than they save."""

MOST_WASTE = 2.0
"""Outputs that the tiles compute for one that is wanted: from 4 on nothing is gained."""

LARGE = 256 * 512
"""Weights' channels, inputs times outputs, from which one product of matrices is faster where tiles are not."""


class Convolution(nn.Conv2d):
    """A convolution, and the activation behind it, computed in the way that is fastest for its input."""

    slope = 1.0
    """Of negative values: 0 for ReLU, 1 for no activation."""

    def forward(self, input: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        """The convolution of the input, activated."""
        if _is_float32(input) and _suits_tiles(input):
            return convolve(input, self.weight, self.bias, self.slope)
        if _is_float32(input) and self.in_channels * self.out_channels >= LARGE:
            y = convolve_columns(input, self.weight)
            y = y if self.bias is None else y + self.bias[:, None, None]
        else:
            y = super().forward(input)
        return y if self.slope == 1 else F.leaky_relu(y, self.slope)


class Normalisation(SharedBatchNorm):
    """Batch normalisation, over all processes, and the activation behind it."""

    slope = 1.0
    """Of negative values: 0 for ReLU, 1 for no activation."""

    def forward(self, input: Float[Tensor, "b c ..."]) -> Float[Tensor, "b c ..."]:
        """Normalise, activate, and let the running statistics follow."""
        if not (self.training and input.ndim == 4 and _is_float32(input) and input.numel() > input.shape[1]):
            y = super().forward(input)
            return y if self.slope == 1 else F.leaky_relu(y, self.slope)
        x = input.contiguous(memory_format=torch.channels_last)
        return self.after(x, moments_of(x))

    def before(
        self, x: Float32[Tensor, "b c h w"], moments: Moments, weight: Float32[Tensor, "o c 3 3"]
    ) -> tuple[Float32[Tensor, "b o h w"], Moments]:
        """`after`, and of that the convolution with its own moments, without the step between in memory."""
        self.follow(moments.mean.float(), moments.variance.float(), moments.values)
        return convolve_normalised(x, moments, self.weight, self.bias, weight, epsilon=self.eps, slope=self.slope)

    def after(self, x: Float32[Tensor, "b c h w"], moments: Moments) -> Float32[Tensor, "b c h w"]:
        """Normalise by moments that are known, activate, and let the running statistics follow."""
        self.follow(moments.mean.float(), moments.variance.float(), moments.values)
        return normalise(x, moments, self.weight, self.bias, epsilon=self.eps, slope=self.slope)


class Pooling(nn.MaxPool2d):
    """The maximum of 2 x 2 pixels."""

    def forward(self, input: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b c h//2 w//2"]:
        """The maxima of the input."""
        suits = input.ndim == 4 and _is_float32(input) and input.shape[1] % load_library().jcl_lanes() == 0
        return pool(input) if suits and min(input.shape[2:]) > 1 else F.max_pool2d(input, 2)


class Chain(nn.Sequential):
    """3 x 3 convolutions, each with its batch normalisation and activation behind it.

    In training what lies between two convolutions is made where it is read, and normalisations get their moments from
    the convolution before them.
    """

    def forward(self, input: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        """What the layers compute one after the other."""
        layers = [layer for layer in self if not isinstance(layer, nn.Identity)]
        links = [(layers[number], cast("Normalisation", layers[number + 1])) for number in range(0, len(layers), 2)]
        alone = _is_float32(input) and not any(map(_is_watched, self))
        several = input.numel() > input.shape[1]  # else the layers say that one value has no variance
        if not (alone and several and all(norm.training for _, norm in links)):
            return super().forward(input)
        convolution, norm = links[0]
        x, moments = _measured(convolution, input)
        for convolution, following in links[1:]:
            if _takes_moments(convolution, x):
                x, moments = norm.before(x, moments, cast("Convolution", convolution).weight)
            else:
                x, moments = _measured(convolution, norm.after(x, moments))
            norm = following
        return norm.after(x, moments)


def _measured(convolution: nn.Module, x: Tensor) -> tuple[Tensor, Moments]:
    """The convolution of x, and the moments of the result."""
    if _takes_moments(convolution, x):
        return convolve_measured(x, cast("Convolution", convolution).weight)
    y = convolution(x).contiguous(memory_format=torch.channels_last)
    return y, moments_of(y)


def _takes_moments(convolution: nn.Module, x: Tensor) -> bool:
    return isinstance(convolution, Convolution) and convolution.bias is None and _suits_tiles(x)


def _is_watched(layer: nn.Module) -> bool:
    """Whether somebody waits for what the layer itself gets or gives."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks)  # pyright: ignore[reportPrivateUsage]


def _is_float32(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def _suits_tiles(x: Tensor) -> bool:
    h, w = x.shape[-2:]
    return len(x) * h * w >= LEAST_PIXELS and -(-h // 4) * -(-w // 4) * 16 <= MOST_WASTE * h * w
