"""Calls of the C code for 3 x 3 convolutions by Winograd's tiles (Lavin and Gray, 2015, arXiv:1509.09308).

All arrays are float32 on a CPU in channels-last layout, channels a multiple of the kernels' lanes.
"""

import ctypes
import threading

import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from jcl.kernels import library
from jcl.kernels.affine import Affine, Moments, moments_from_parts
from jcl.kernels.library import load_library
from jcl.kernels.operators import empty_channels_last

__all__ = ["correlate", "correlate_with_moments", "gradient_before", "input_gradient", "weight_gradient"]

_kept = threading.local()


def correlate(
    x: Float32[Tensor, "b i h w"],
    weight: Float32[Tensor, "o i 3 3"],
    bias: Float32[Tensor, " o"] | None = None,
    slope: float = 1.0,
) -> Float32[Tensor, "b o h w"]:
    """The convolution of x, with bias and activation."""
    added = None if bias is None else bias.detach().contiguous()  # has to be there as long as its address is used
    return _run(x, weight, library.Epilogue(bias=None if added is None else added.data_ptr(), slope=slope))


def input_gradient(
    gradient: Float32[Tensor, "b o h w"], weight: Float32[Tensor, "o i 3 3"]
) -> Float32[Tensor, "b i h w"]:
    """Gradient of the input of a convolution, from that of its result."""
    return _run(gradient, weight, library.Epilogue(slope=1.0), flipped=True)


def correlate_with_moments(
    x: Float32[Tensor, "b i h w"], weight: Float32[Tensor, "o i 3 3"], before: Affine | None = None
) -> tuple[Float32[Tensor, "b o h w"], Moments]:
    """The convolution of x, normalised `before` that, and the moments of the result."""
    parts = _empty_sums(x, weight.shape[0])
    counts = torch.empty(len(parts))
    epilogue = library.Epilogue(slope=1.0, moments=parts.data_ptr(), counts=counts.data_ptr())
    return _run(x, weight, epilogue, before=before), moments_from_parts(parts, counts, x.numel() // x.shape[1])


def gradient_before(
    gradient: Float32[Tensor, "b o h w"], weight: Float32[Tensor, "o i 3 3"], x: Float32[Tensor, "b i h w"], of: Affine
) -> tuple[Float32[Tensor, "b i h w"], Float64[Tensor, "2 i"]]:
    """Gradient of what stands before the activation in the convolution of the normalised x, from that of the result.

    With its sum by channel, and that of its products with x - mean.
    """
    parts = _empty_sums(gradient, weight.shape[1])
    epilogue = library.Epilogue(slope=1.0, sums=parts.data_ptr(), x=x.data_ptr(), of=of.reference)
    return _run(gradient, weight, epilogue, flipped=True), parts.sum(0, dtype=torch.float64)


def weight_gradient(
    x: Float32[Tensor, "b i h w"],
    gradient: Float32[Tensor, "b o h w"],
    weight: Float32[Tensor, "o i 3 3"],
    before: Affine | None = None,
) -> Float32[Tensor, "o i 3 3"]:
    """Gradient of the weights of the convolution of x, normalised `before` that, laid out like the weights."""
    compiled, threads = load_library(), torch.get_num_threads()
    result = torch.empty_like(weight)
    b, _, h, w = x.shape
    compiled.jcl_weight_gradient(
        x.data_ptr(), before and before.reference, gradient.data_ptr(), library.weights_of(result), b, h, w,
        _scratch(compiled.jcl_weight_gradient_work(weight.shape[1], weight.shape[0], threads)), threads,
    )  # fmt: skip
    return result


def _run(
    x: Tensor, weight: Tensor, epilogue: library.Epilogue, *, flipped: bool = False, before: Affine | None = None
) -> Tensor:
    compiled, threads = load_library(), torch.get_num_threads()
    weights = library.weights_of(weight, flipped=flipped)
    b, _, h, w = x.shape
    if x.dtype != torch.float32 or weight.dtype != torch.float32:
        raise ValueError(f"the kernels take float32, not {x.dtype} and {weight.dtype}")
    lanes = compiled.jcl_lanes()
    if weights.rows % lanes or weights.columns % lanes or x.shape[1] != weights.rows or weight.shape[2:] != (3, 3):
        raise ValueError(f"weights of {tuple(weight.shape)} for {x.shape[1]} channels, which go by {lanes}")
    y = empty_channels_last(x, b, weights.columns, h, w)
    compiled.jcl_convolve(
        x.data_ptr(), before and before.reference, weights, y.data_ptr(), b, h, w, epilogue,
        _scratch(compiled.jcl_convolve_work(weights.rows, weights.columns, threads)), threads,
    )  # fmt: skip
    return y


def _empty_sums(x: Tensor, channels: int) -> Tensor:
    """For two sums a channel of each block of tiles of a convolution of x."""
    b, _, h, w = x.shape
    return torch.empty(load_library().jcl_convolve_blocks(b, h, w), 2, channels)


def _scratch(size: int) -> ctypes.c_void_p:
    """Memory that this thread keeps from call to call: fetched anew, the system would fill it with zeros each time."""
    found: Tensor | None = getattr(_kept, "work", None)
    if found is None or len(found) < size:
        found = _kept.work = torch.empty(size, dtype=torch.float32)
    return ctypes.c_void_p(found.data_ptr())
