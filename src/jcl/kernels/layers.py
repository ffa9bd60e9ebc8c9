"""Have a network run on the kernels: its layers are exchanged, weights and their names stay."""

import itertools
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jcl.kernels.columns import convolve_columns
from jcl.kernels.convolution import convolve
from jcl.kernels.library import KernelError, load_library
from jcl.kernels.normalisation import normalise
from jcl.kernels.pooling import pool
from jcl.norms import SharedBatchNorm, converted

__all__ = ["have_kernels", "use_kernels"]

LEAST_PIXELS = 400
"""Of all slices together, below which making the weights ready for tiles takes longer than they save."""

MOST_WASTE = 2.0
"""Outputs that the tiles compute for one that is wanted: from 4 on nothing is gained."""

LARGE = 256 * 512
"""Weights' channels, inputs times outputs, from which one product of matrices is faster where tiles are not."""


def have_kernels() -> bool:
    """Whether the kernels can be had on this machine; the first call may compile them."""
    try:
        load_library()
    except KernelError:
        return False
    return True


def use_kernels(network: nn.Module) -> None:
    """Exchange the layers that the kernels can compute: 3 x 3 convolutions, batch normalisations, 2 x 2 pooling.

    A ReLU or leaky ReLU right behind one in an `nn.Sequential` becomes part of it. What a layer cannot do with the
    kernels (bfloat16, a GPU, few pixels) it does as before. Do this after the last change of the network's layers, and
    save its `state_dict`, whose names are the old ones, not the network.

    Raises:
        KernelError: the kernels cannot be compiled here.
    """
    lanes: int = load_library().jcl_lanes()
    for part in list(network.modules()):
        for name, child in list(part.named_children()):
            if type(child) is nn.Conv2d and _is_plain(child, lanes):
                child.__class__ = Convolution
            elif type(child) is nn.MaxPool2d and _halves(child):
                child.__class__ = Pooling
            elif type(child) in (nn.BatchNorm2d, SharedBatchNorm) and _is_usual(child, lanes):
                setattr(part, name, converted(cast("nn.BatchNorm2d", child), Normalisation))
        if isinstance(part, nn.Sequential) and type(part).forward is nn.Sequential.forward:
            _join(part)


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
        y, mean, variance, count = normalise(input, self.weight, self.bias, epsilon=self.eps, slope=self.slope)
        self.follow(mean, variance, count)
        return y


class Pooling(nn.MaxPool2d):
    """The maximum of 2 x 2 pixels."""

    def forward(self, input: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b c h//2 w//2"]:
        """The maxima of the input."""
        suits = input.ndim == 4 and _is_float32(input) and input.shape[1] % load_library().jcl_lanes() == 0
        return pool(input) if suits and min(input.shape[2:]) > 1 else F.max_pool2d(input, 2)


def _halves(layer: nn.MaxPool2d) -> bool:
    pairs = [_pair(value) for value in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)]
    return pairs == [(2, 2), (2, 2), (0, 0), (1, 1)] and not (layer.ceil_mode or layer.return_indices)


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _is_plain(layer: nn.Conv2d, lanes: int) -> bool:
    kind = (layer.kernel_size, layer.stride, layer.dilation, layer.groups, layer.padding_mode)
    padded = layer.padding in ((1, 1), "same")
    multiples = layer.in_channels % lanes == 0 and layer.out_channels % lanes == 0
    return kind == ((3, 3), (1, 1), (1, 1), 1, "zeros") and padded and multiples


def _is_usual(layer: nn.Module, lanes: int) -> bool:
    norm = cast("nn.BatchNorm2d", layer)
    return norm.affine and norm.num_features % lanes == 0


def _is_float32(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def _suits_tiles(x: Tensor) -> bool:
    h, w = x.shape[-2:]
    return len(x) * h * w >= LEAST_PIXELS and -(-h // 4) * -(-w // 4) * 16 <= MOST_WASTE * h * w


def _join(part: nn.Sequential) -> None:
    """Let a layer do the activation behind it, too."""
    layers = [number for number, layer in enumerate(part) if not isinstance(layer, nn.Identity)]
    for number, after in itertools.pairwise(layers):
        layer, activation = part[number], part[after]
        if isinstance(layer, (Convolution, Normalisation)) and isinstance(activation, (nn.ReLU, nn.LeakyReLU)):
            layer.slope = activation.negative_slope if isinstance(activation, nn.LeakyReLU) else 0.0
            part[after] = nn.Identity()
