"""Batch normalisation and the (leaky) ReLU behind it in one, with gradients, over the slices of all processes."""

from typing import Any

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor, distributed

from jcl.distributed.comm import world_size
from jcl.kernels.affine import Affine, Moments, affine_of, moments_from_parts
from jcl.kernels.library import function_for, load_library
from jcl.kernels.operators import call, differentiable, empty_channels_last, operator

__all__ = ["empty_moments", "gradients_of_normalisation", "moments_of", "normalise"]


def moments_of(x: Float[Tensor, "b c h w"]) -> Moments:
    """Of float32 or bfloat16 on a CPU, channels a multiple of the kernels' lanes; `normalise` has the gradient."""
    return Moments(*call("moments", x.detach()))


def normalise(
    x: Float[Tensor, "b c h w"],
    moments: Moments,
    weight: Float32[Tensor, " c"],
    bias: Float32[Tensor, " c"],
    *,
    epsilon: float,
    slope: float,
) -> Float[Tensor, "b c h w"]:
    """Normalise by the mean and variance of the batch (Ioffe and Szegedy, 2015, arXiv:1502.03167), then activate.

    Args:
        x: float32 or bfloat16 on a CPU, in channels-last layout, channels a multiple of the kernels' lanes.
        moments: of x, over all processes, which have as many pixels each; the gradient knows that they depend on x.
        weight: factor of the normalised values.
        bias: what is added to them.
        epsilon: added to the variance.
        slope: of negative values behind it: 0 for ReLU, 1 for none.
    """
    return call("normalisation", x, *moments, weight, bias, epsilon, slope)


def gradients_of_normalisation(
    x: Float[Tensor, "b c h w"],
    gradient: Float[Tensor, "b c h w"],
    sums: Float64[Tensor, "2 c"],
    affine: Affine,
    deviation: Float64[Tensor, " c"],
    out: Float[Tensor, "b c h w"],
) -> tuple[Float32[Tensor, " c"], Float32[Tensor, " c"]]:
    """Write the gradient of x to `out`, which may be `gradient`; those of weight and bias are returned.

    Args:
        x: what was normalised.
        gradient: of the result.
        sums: of the gradient before the activation, and of that times x - mean, over the slices of this process.
        affine: the normalisation; its activation is taken back in `gradient`.
        deviation: one over the standard deviation.
        out: in channels-last layout, as x and gradient are.
    """
    channels = x.shape[1]
    rows = x.numel() // channels
    total = sums.clone()
    if world_size() > 1:
        distributed.all_reduce(total)  # pyright: ignore[reportPrivateImportUsage]
    total /= world_size() * rows
    mean_g = (total[0] * affine.scale).float()
    along_g = (total[1] * affine.scale * deviation**2).float()
    function_for("jcl_normalise_gradient", x)(
        x.data_ptr(), gradient.data_ptr(), out.data_ptr(), rows, channels, affine.reference,
        mean_g.data_ptr(), along_g.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    # each process has its own share of these two: gradients are averaged over processes later
    return (sums[1] * deviation).float(), sums[0].float()


def empty_moments(x: Tensor, channels: int | torch.SymInt | None = None) -> tuple[Tensor, Tensor]:
    """Of as many channels, or of those of x."""
    channels = x.shape[1] if channels is None else channels
    return x.new_empty(channels, dtype=torch.float64), x.new_empty(channels, dtype=torch.float64)


@operator("moments(Tensor x) -> (Tensor, Tensor)", fake=empty_moments)
def _moments(x: Tensor) -> Moments:
    x = x.contiguous(memory_format=torch.channels_last)
    compiled, channels = load_library(), x.shape[1]
    rows = x.numel() // channels
    blocks, size = compiled.jcl_blocks(rows), compiled.jcl_block_rows()
    parts = torch.empty(blocks, 2, channels)
    function_for("jcl_moments", x)(x.data_ptr(), rows, channels, parts.data_ptr(), torch.get_num_threads())
    counts = torch.full((blocks,), float(size))
    counts[-1] = rows - size * (blocks - 1)
    return moments_from_parts(parts, counts, rows)


ARGUMENTS = "Tensor x, Tensor mean, Tensor variance, Tensor weight, Tensor bias, float epsilon, float slope"


def _fake_normalisation(x: Tensor, *_: Any) -> Tensor:
    return empty_channels_last(x, *x.shape)


@operator(f"normalisation({ARGUMENTS}) -> Tensor", fake=_fake_normalisation)
def _normalisation(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, epsilon: float, slope: float
) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    affine, _ = affine_of(Moments(mean, variance), weight, bias, epsilon, slope)
    y, channels = empty_channels_last(x, *x.shape), x.shape[1]
    function_for("jcl_normalise", x)(
        x.data_ptr(), y.data_ptr(), x.numel() // channels, channels, affine.reference, torch.get_num_threads()
    )
    return y


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.epsilon, ctx.slope = inputs
    ctx.save_for_backward(*tensors)


@differentiable("normalisation", _save)
def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    found = call("normalisation_backward", gradient, *ctx.saved_tensors, ctx.epsilon, ctx.slope)
    return found[0], None, None, found[1], found[2], None, None


def _fake_gradients(gradient: Tensor, x: Tensor, *_: Any) -> tuple[Tensor, ...]:
    return _fake_normalisation(x), *(x.new_empty(x.shape[1], dtype=torch.float32) for _ in range(2))


@operator(f"normalisation_backward(Tensor gradient, {ARGUMENTS}) -> (Tensor, Tensor, Tensor)", fake=_fake_gradients)
def _normalisation_backward(
    gradient: Tensor, x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor,
    epsilon: float, slope: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    x, gradient = (each.contiguous(memory_format=torch.channels_last) for each in (x, gradient))
    channels = x.shape[1]
    rows = x.numel() // channels
    affine, deviation = affine_of(Moments(mean, variance), weight, bias, epsilon, slope)
    parts = torch.empty(load_library().jcl_blocks(rows), 2, channels)
    function_for("jcl_gradient_sums", x)(
        x.data_ptr(), gradient.data_ptr(), rows, channels, affine.reference, parts.data_ptr(), torch.get_num_threads()
    )
    of_x, sums = empty_channels_last(x, *x.shape), parts.sum(0, dtype=torch.float64)
    return of_x, *gradients_of_normalisation(x, gradient, sums, affine, deviation, out=of_x)
