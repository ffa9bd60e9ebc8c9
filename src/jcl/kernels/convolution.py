"""3 x 3 convolutions on tiles with gradients, alone and in a chain with the normalisations between them."""

from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from jcl.kernels import winograd
from jcl.kernels.affine import Affine, Moments
from jcl.kernels.library import load_library
from jcl.kernels.normalisation import affine_of, gradients_of_normalisation

__all__ = ["convolve", "convolve_measured", "convolve_normalised"]


def convolve(
    x: Float32[Tensor, "b i h w"],
    weight: Float32[Tensor, "o i 3 3"],
    bias: Float32[Tensor, " o"] | None = None,
    slope: float = 1.0,
) -> Float32[Tensor, "b o h w"]:
    """What `leaky_relu(conv2d(x, weight, bias, padding=1), slope)` computes, in 36 products for 16 outputs, not 144.

    On a CPU, in channels-last layout, which x is brought to if it has another. Bias and slope cost nothing where no
    gradient is asked for. Rounding errors are some times those of the direct sum, at most 3e-5 of the largest value
    in the tests. The result is the same for any number of threads.

    Raises:
        KernelError: the kernels cannot be compiled here.
        ValueError: not float32 on a CPU, or channels that are no multiple of the kernels' lanes.
    """
    _check(x, weight)
    if torch.is_grad_enabled():
        y: Tensor = _Convolution.apply(x, weight)  # pyright: ignore[reportAssignmentType]
        y = y if bias is None else y + bias[:, None, None]
        return y if slope == 1 else F.leaky_relu(y, slope)
    return winograd.correlate(x.contiguous(memory_format=torch.channels_last), weight, bias, slope)


def convolve_measured(
    x: Float32[Tensor, "b i h w"], weight: Float32[Tensor, "o i 3 3"]
) -> tuple[Float32[Tensor, "b o h w"], Moments]:
    """`convolve` without bias, and the moments of what it gives, for a normalisation behind it.

    Raises:
        KernelError, ValueError: as in `convolve`.
    """
    _check(x, weight)
    y, mean, variance, values = _MeasuredConvolution.apply(x, weight)  # pyright: ignore[reportGeneralTypeIssues]
    return y, Moments(mean, variance, values)


def convolve_normalised(
    x: Float32[Tensor, "b i h w"],
    moments: Moments,
    scale: Float32[Tensor, " i"],
    shift: Float32[Tensor, " i"],
    weight: Float32[Tensor, "o i 3 3"],
    *,
    epsilon: float,
    slope: float,
) -> tuple[Float32[Tensor, "b o h w"], Moments]:
    """`convolve_measured(normalise(x, moments, scale, shift, ...), weight)` in one.

    What lies between is never in memory: x is normalised and activated each time it is read, forward and back, and
    the sums that the gradient of a normalisation needs are taken where the gradient of its result arises.

    Raises:
        KernelError, ValueError: as in `convolve`.
    """
    _check(x, weight)
    found = _NormalisedConvolution.apply(x, moments, scale, shift, weight, epsilon, slope)
    y, mean, variance, values = found  # pyright: ignore[reportGeneralTypeIssues]
    return y, Moments(mean, variance, values)


def _check(x: Tensor, weight: Tensor) -> None:
    lanes = load_library().jcl_lanes()
    if x.dtype != torch.float32 or weight.dtype != torch.float32 or x.device.type != "cpu":
        raise ValueError(f"the kernels take float32 on a CPU, not {x.dtype} on {x.device}")
    if weight.shape[0] % lanes or weight.shape[1] % lanes or weight.shape[1:] != (x.shape[1], 3, 3):
        raise ValueError(f"weights of {tuple(weight.shape)} for {x.shape[1]} channels, which go by {lanes}")


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        return winograd.correlate(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _gradients(ctx, grad_output)


class _MeasuredConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        y, moments = winograd.measured(x, weight)
        ctx.mark_non_differentiable(moments.mean, moments.variance)
        return y, moments.mean, moments.variance, moments.values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, *_: Any) -> tuple[Tensor | None, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _gradients(ctx, grad_output)


def _gradients(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None]:
    x, weight = ctx.saved_tensors
    gradient = grad_output.contiguous(memory_format=torch.channels_last)
    of_x = winograd.input_gradient(gradient, weight) if ctx.needs_input_grad[0] else None
    return of_x, winograd.weight_gradient(x, gradient, weight) if ctx.needs_input_grad[1] else None


class _NormalisedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        x: Tensor,
        moments: Moments,
        scale: Tensor,
        shift: Tensor,
        weight: Tensor,
        epsilon: float,
        slope: float,
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        x = x.contiguous(memory_format=torch.channels_last)
        affine, deviation = affine_of(moments, scale, shift, epsilon, slope)
        y, moments = winograd.measured(x, weight, affine)
        ctx.save_for_backward(x, affine.mean, affine.scale, affine.shift, deviation, weight)
        ctx.slope = slope
        ctx.mark_non_differentiable(moments.mean, moments.variance)
        return y, moments.mean, moments.variance, moments.values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, *_: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, mean, scale, shift, deviation, weight = ctx.saved_tensors
        affine = Affine(mean, scale, shift, ctx.slope)
        gradient = grad_output.contiguous(memory_format=torch.channels_last)
        of_weight = winograd.weight_gradient(x, gradient, weight, affine) if ctx.needs_input_grad[4] else None
        before, sums = winograd.gradient_before(gradient, weight, x, affine)
        linear = Affine(mean, scale, shift, 1.0)  # the activation is taken back already
        of_scale, of_shift = gradients_of_normalisation(x, before, sums, linear, deviation, before)
        return before, None, of_scale, of_shift, of_weight, None, None
