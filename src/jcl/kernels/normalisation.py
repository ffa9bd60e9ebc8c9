"""Batch normalisation and the (leaky) ReLU behind it in one, with gradients, over the slices of all processes."""

from typing import Any

import torch
from jaxtyping import Float32, Float64
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from jcl.distributed import processes
from jcl.kernels.affine import Affine, Moments
from jcl.kernels.library import load_library

__all__ = ["affine_of", "gradients_of_normalisation", "normalise"]


def normalise(
    x: Float32[Tensor, "b c h w"],
    moments: Moments,
    weight: Float32[Tensor, " c"],
    bias: Float32[Tensor, " c"],
    *,
    epsilon: float,
    slope: float,
) -> Float32[Tensor, "b c h w"]:
    """Normalise by the mean and variance of the batch (Ioffe and Szegedy, 2015, arXiv:1502.03167), then activate.

    Args:
        x: float32 on a CPU, in channels-last layout, channels a multiple of the kernels' lanes.
        moments: of x, over all processes, which have as many pixels each; the gradient knows that they depend on x.
        weight: factor of the normalised values.
        bias: what is added to them.
        epsilon: added to the variance.
        slope: of negative values behind it: 0 for ReLU, 1 for none.
    """
    return _Normalisation.apply(x, moments, weight, bias, epsilon, slope)  # pyright: ignore[reportReturnType]


def affine_of(
    moments: Moments, weight: Float32[Tensor, " c"], bias: Float32[Tensor, " c"], epsilon: float, slope: float
) -> tuple[Affine, Float64[Tensor, " c"]]:
    """What normalising by the moments does to a value, and one over the standard deviation."""
    deviation = torch.rsqrt(moments.variance + epsilon)
    scale = (weight.detach().double() * deviation).float()
    return Affine(moments.mean.float(), scale, bias.detach().float().contiguous(), slope), deviation


def gradients_of_normalisation(
    x: Float32[Tensor, "b c h w"],
    gradient: Float32[Tensor, "b c h w"],
    sums: Float64[Tensor, "2 c"],
    affine: Affine,
    deviation: Float64[Tensor, " c"],
    out: Float32[Tensor, "b c h w"],
) -> tuple[Float32[Tensor, " c"], Float32[Tensor, " c"]]:
    """Write the gradient of x to `out`, which may be `gradient`; those of weight and bias are returned.

    Args:
        x: what was normalised.
        gradient: of the result.
        sums: of the gradient before the activation, and of that times x - mean, over the slices of this process.
        affine: the normalisation; its activation is taken back in `gradient`.
        deviation: one over the standard deviation.
        out: in channels-last layout.
    """
    channels = x.shape[1]
    rows = x.numel() // channels
    total = sums.clone()
    if processes() > 1:
        distributed.all_reduce(total)  # pyright: ignore[reportPrivateImportUsage]
    total /= processes() * rows
    mean_g = (total[0] * affine.scale).float()
    along_g = (total[1] * affine.scale * deviation**2).float()
    load_library().jcl_normalise_gradient(
        x.data_ptr(), gradient.data_ptr(), out.data_ptr(), rows, channels, affine.reference,
        mean_g.data_ptr(), along_g.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    # each process has its own share of these two: gradients are averaged over processes later
    return (sums[1] * deviation).float(), sums[0].float()


class _Normalisation(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, x: Tensor, moments: Moments, weight: Tensor, bias: Tensor, epsilon: float, slope: float
    ) -> Tensor:
        affine, deviation = affine_of(moments, weight, bias, epsilon, slope)
        y = torch.empty_like(x, memory_format=torch.channels_last)
        channels = x.shape[1]
        load_library().jcl_normalise(
            x.data_ptr(), y.data_ptr(), x.numel() // channels, channels, affine.reference, torch.get_num_threads()
        )
        ctx.save_for_backward(x, affine.mean, affine.scale, affine.shift, deviation)
        ctx.slope = slope
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        compiled = load_library()
        x, mean, scale, shift, deviation = ctx.saved_tensors
        affine = Affine(mean, scale, shift, ctx.slope)
        gradient = grad_output.contiguous(memory_format=torch.channels_last)
        channels = x.shape[1]
        rows = x.numel() // channels
        parts = torch.empty(compiled.jcl_blocks(rows), 2, channels)
        compiled.jcl_gradient_sums(
            x.data_ptr(),
            gradient.data_ptr(),
            rows,
            channels,
            affine.reference,
            parts.data_ptr(),
            torch.get_num_threads(),
        )
        of_x = torch.empty_like(x, memory_format=torch.channels_last)
        sums = parts.sum(0, dtype=torch.float64)
        of_weight, of_bias = gradients_of_normalisation(x, gradient, sums, affine, deviation, of_x)
        return of_x, None, of_weight, of_bias, None, None
