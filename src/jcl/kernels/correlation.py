"""3 x 3 convolutions and their gradients by the C code: float32 on Winograd's tiles, bfloat16 directly.

Arrays are of either type on a CPU in channels-last layout, channels a multiple of what `winograd` and `direct` say;
weights and their gradients are float32.
"""

from types import ModuleType

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from jcl.kernels import direct, library, winograd
from jcl.kernels.affine import Affine, Moments, moments_from_parts
from jcl.kernels.operators import empty_channels_last

__all__ = ["correlate", "correlate_with_moments", "gradient_before", "input_gradient", "weight_gradient"]


def correlate(
    x: Float[Tensor, "b i h w"],
    weight: Float32[Tensor, "o i 3 3"],
    bias: Float32[Tensor, " o"] | None = None,
    slope: float = 1.0,
) -> Float[Tensor, "b o h w"]:
    """The convolution of x, with bias and activation."""
    added = None if bias is None else bias.detach().contiguous()  # has to be there as long as its address is used
    return _run(x, weight, library.Epilogue(bias=None if added is None else added.data_ptr(), slope=slope))


def input_gradient(gradient: Float[Tensor, "b o h w"], weight: Float32[Tensor, "o i 3 3"]) -> Float[Tensor, "b i h w"]:
    """Gradient of the input of a convolution, from that of its result."""
    return _run(gradient, weight, library.Epilogue(slope=1.0), flipped=True)


def correlate_with_moments(
    x: Float[Tensor, "b i h w"], weight: Float32[Tensor, "o i 3 3"], before: Affine | None = None
) -> tuple[Float[Tensor, "b o h w"], Moments]:
    """The convolution of x, normalised `before` that, and the moments of the result."""
    parts = _empty_sums(x, weight.shape[0])
    counts = torch.empty(len(parts))
    epilogue = library.Epilogue(slope=1.0, moments=parts.data_ptr(), counts=counts.data_ptr())
    return _run(x, weight, epilogue, before=before), moments_from_parts(parts, counts, x.numel() // x.shape[1])


def gradient_before(
    gradient: Float[Tensor, "b o h w"], weight: Float32[Tensor, "o i 3 3"], x: Float[Tensor, "b i h w"], of: Affine
) -> tuple[Float[Tensor, "b i h w"], Float64[Tensor, "2 i"]]:
    """Gradient of what stands before the activation in the convolution of the normalised x, from that of the result.

    With its sum by channel, and that of its products with x - mean.
    """
    parts = _empty_sums(gradient, weight.shape[1])
    epilogue = library.Epilogue(slope=1.0, sums=parts.data_ptr(), x=x.data_ptr(), of=of.reference)
    return _run(gradient, weight, epilogue, flipped=True), parts.sum(0, dtype=torch.float64)


def weight_gradient(
    x: Float[Tensor, "b i h w"],
    gradient: Float[Tensor, "b o h w"],
    weight: Float32[Tensor, "o i 3 3"],
    before: Affine | None = None,
) -> Float32[Tensor, "o i 3 3"]:
    """Gradient of the weights of the convolution of x, normalised `before` that, laid out like the weights."""
    result = torch.empty_like(weight)
    _way(x).weight_gradient(x, gradient, library.weights_of(result), before)
    return result


def _way(x: Tensor) -> ModuleType:
    """How arrays of this type are convolved.

    Raises:
        ValueError: none of the two types.
    """
    if x.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"the kernels take float32 and bfloat16, not {x.dtype}")
    return direct if x.dtype == torch.bfloat16 else winograd


def _run(
    x: Tensor, weight: Tensor, epilogue: library.Epilogue, *, flipped: bool = False, before: Affine | None = None
) -> Tensor:
    way, weights = _way(x), library.weights_of(weight, flipped=flipped)
    b, _, h, w = x.shape
    if weight.dtype != torch.float32:
        raise ValueError(f"the kernels take weights in float32, not {weight.dtype}")
    step = way.channels()
    if weights.rows % step or weights.columns % step or x.shape[1] != weights.rows or weight.shape[2:] != (3, 3):
        raise ValueError(f"weights of {tuple(weight.shape)} for {x.shape[1]} channels, which go by {step}")
    y = empty_channels_last(x, b, weights.columns, h, w)
    way.convolve(x, before, weights, y, epilogue)
    return y


def _empty_sums(x: Tensor, channels: int) -> Tensor:
    """For two sums a channel of each block of a convolution of x."""
    return torch.empty(_way(x).blocks(*x.shape), 2, channels)
