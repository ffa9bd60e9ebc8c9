"""3 x 3 convolutions with gradients, alone and in a chain with the normalisations between them.

Of float32 on Winograd's tiles (`winograd`), of bfloat16 directly (`direct`).
"""

from typing import Any

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from jcl.kernels import correlation
from jcl.kernels.affine import Affine, Moments, affine_of
from jcl.kernels.normalisation import empty_moments, gradients_of_normalisation
from jcl.kernels.operators import call, differentiable, empty_channels_last, operator

__all__ = ["convolve", "convolve_normalised", "convolve_with_moments"]


def convolve(
    x: Float[Tensor, "b i h w"],
    weight: Float32[Tensor, "o i 3 3"],
    bias: Float32[Tensor, " o"] | None = None,
    slope: float = 1.0,
) -> Float[Tensor, "b o h w"]:
    """What `leaky_relu(conv2d(x, weight, bias, padding=1), slope)` computes, on a CPU.

    In channels-last layout, which x is brought to if it has another. Bias and slope cost nothing. The result is the
    same for any number of threads. Of float32 in 36 products for 16 outputs, not 144, with rounding errors some times
    those of the direct sum, at most 3e-5 of the largest value in the tests. Of bfloat16 with the weights rounded to
    that too, sums in float32, and a result in bfloat16.

    Raises:
        KernelError: the kernels cannot be compiled here.
        ValueError: another type, or channels that are not a multiple of the kernels' lanes (16 in bfloat16).
    """
    return call("convolution", _channels_last(x), weight, bias, slope)


def convolve_with_moments(
    x: Float[Tensor, "b i h w"], weight: Float32[Tensor, "o i 3 3"]
) -> tuple[Float[Tensor, "b o h w"], Moments]:
    """`convolve` without bias, and the moments of what it gives, for a normalisation behind it.

    Raises:
        KernelError, ValueError: as in `convolve`.
    """
    y, mean, variance = call("convolution_moments", _channels_last(x), weight)
    return y, Moments(mean, variance)


def convolve_normalised(
    x: Float[Tensor, "b i h w"],
    moments: Moments,
    scale: Float32[Tensor, " i"],
    shift: Float32[Tensor, " i"],
    weight: Float32[Tensor, "o i 3 3"],
    *,
    epsilon: float,
    slope: float,
) -> tuple[Float[Tensor, "b o h w"], Moments]:
    """`convolve_with_moments(normalise(x, moments, scale, shift, ...), weight)` in one.

    What lies between is never in memory: x is normalised and activated each time it is read, forward and back, and
    the sums that the gradient of a normalisation needs are taken where the gradient of its result arises.

    Raises:
        KernelError, ValueError: as in `convolve`.
    """
    y, mean, variance = call(
        "normalised_convolution", _channels_last(x), *moments, scale, shift, weight, epsilon, slope
    )
    return y, Moments(mean, variance)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _fake_output(x: Tensor, weight: Tensor, *_: Any) -> Tensor:
    return empty_channels_last(x, x.shape[0], weight.shape[0], *x.shape[2:])


@operator("convolution(Tensor x, Tensor weight, Tensor? bias, float slope) -> Tensor", fake=_fake_output)
def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None, slope: float) -> Tensor:
    return correlation.correlate(_channels_last(x), weight, bias, slope)


def _save_convolution(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, ctx.slope = inputs
    ctx.save_for_backward(x, weight, None if ctx.slope == 1 else output)


@differentiable("convolution", _save_convolution)
def _convolution_gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, y = ctx.saved_tensors
    if y is not None:  # which has the sign of what was activated
        gradient = torch.ops.aten.leaky_relu_backward.default(gradient, y, ctx.slope, True)
    of_bias = gradient.sum((0, 2, 3), dtype=torch.float32) if ctx.needs_input_grad[2] else None
    return *_gradients(gradient, x, weight, ctx.needs_input_grad), of_bias, None


def _gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, needed: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None]:
    found = call("convolution_backward", gradient, x, weight, *needed[:2])
    of_x, of_weight = (each if asked else None for each, asked in zip(found, needed, strict=False))
    return of_x, of_weight


def _fake_gradients(gradient: Tensor, x: Tensor, weight: Tensor, of_x: bool, of_weight: bool) -> tuple[Tensor, Tensor]:
    return (
        empty_channels_last(x, *x.shape) if of_x else x.new_empty(0),
        torch.empty_like(weight) if of_weight else x.new_empty(0),
    )


@operator(
    "convolution_backward(Tensor gradient, Tensor x, Tensor weight, bool of_x, bool of_weight) -> (Tensor, Tensor)",
    fake=_fake_gradients,
)
def _convolution_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, of_x: bool, of_weight: bool
) -> tuple[Tensor, Tensor]:
    """The gradients that are asked for; nothing, (0,), in the place of the others."""
    gradient = _channels_last(gradient)
    return (
        correlation.input_gradient(gradient, weight) if of_x else x.new_empty(0),
        correlation.weight_gradient(_channels_last(x), gradient, weight) if of_weight else x.new_empty(0),
    )


def _fake_with_moments(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _fake_output(x, weight), *empty_moments(x, weight.shape[0])


@operator("convolution_moments(Tensor x, Tensor weight) -> (Tensor, Tensor, Tensor)", fake=_fake_with_moments)
def _convolution_moments(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    y, moments = correlation.correlate_with_moments(_channels_last(x), weight)
    return y, moments.mean, moments.variance


def _save_with_moments(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs)
    ctx.mark_non_differentiable(*output[1:])


@differentiable("convolution_moments", _save_with_moments)
def _gradients_with_moments(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    return _gradients(gradient, x, weight, ctx.needs_input_grad)


NORMALISED = (
    "Tensor x, Tensor mean, Tensor variance, Tensor scale, Tensor shift, Tensor weight, float epsilon, float slope"
)


def _fake_normalised(x: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, *_: Any):
    return _fake_with_moments(x, weight)


@operator(f"normalised_convolution({NORMALISED}) -> (Tensor, Tensor, Tensor)", fake=_fake_normalised)
def _normalised_convolution(
    x: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor, weight: Tensor,
    epsilon: float, slope: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    affine, _ = affine_of(Moments(mean, variance), scale, shift, epsilon, slope)
    y, moments = correlation.correlate_with_moments(_channels_last(x), weight, affine)
    return y, moments.mean, moments.variance


def _save_normalised(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.epsilon, ctx.slope = inputs
    ctx.save_for_backward(*tensors)
    ctx.mark_non_differentiable(*output[1:])


@differentiable("normalised_convolution", _save_normalised)
def _normalised_gradients(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    needed = ctx.needs_input_grad[5]
    of_x, of_scale, of_shift, of_weight = call(
        "normalised_convolution_backward", gradient, *ctx.saved_tensors, ctx.epsilon, ctx.slope, needed
    )
    return of_x, None, None, of_scale, of_shift, of_weight if needed else None, None, None


def _fake_normalised_gradients(
    gradient: Tensor, x: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor, weight: Tensor,
    epsilon: float, slope: float, of_weight: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    weights = torch.empty_like(weight) if of_weight else x.new_empty(0)
    return empty_channels_last(x, *x.shape), *(torch.empty_like(each) for each in (scale, shift)), weights


@operator(
    f"normalised_convolution_backward(Tensor gradient, {NORMALISED}, bool of_weight) -> "
    "(Tensor, Tensor, Tensor, Tensor)",
    fake=_fake_normalised_gradients,
)
def _normalised_convolution_backward(
    gradient: Tensor, x: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor, weight: Tensor,
    epsilon: float, slope: float, of_weight: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    x, gradient = _channels_last(x), _channels_last(gradient)
    affine, deviation = affine_of(Moments(mean, variance), scale, shift, epsilon, slope)
    weights = correlation.weight_gradient(x, gradient, weight, affine) if of_weight else x.new_empty(0)
    of_x, sums = correlation.gradient_before(gradient, weight, x, affine)
    linear = Affine(affine.mean, affine.scale, affine.shift, 1.0)  # the activation is taken back already
    of_scale, of_shift = gradients_of_normalisation(x, of_x, sums, linear, deviation, out=of_x)
    return of_x, of_scale, of_shift, weights
