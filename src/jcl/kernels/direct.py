"""Calls of the C code for 3 x 3 convolutions in bfloat16, as one product of matrices with sums in float32.

All arrays are bfloat16 on a CPU in channels-last layout, channels a multiple of 16; weights and their gradients are
float32. On processors with AMX the products are those of its tiles; on others the same code goes by vectors, slowly.
"""

import ctypes
import threading

import torch
from jaxtyping import BFloat16, Float32, Float64
from torch import Tensor

from jcl.kernels import library
from jcl.kernels.affine import Affine, Moments, moments_from_parts
from jcl.kernels.library import load_library
from jcl.kernels.operators import empty_channels_last

__all__ = ["CHANNELS", "correlate", "correlate_with_moments", "gradient_before", "input_gradient", "weight_gradient"]

CHANNELS = 16
"""What channels have to be a multiple of."""

_kept = threading.local()


def correlate(
    x: BFloat16[Tensor, "b i h w"],
    weight: Float32[Tensor, "o i 3 3"],
    bias: Float32[Tensor, " o"] | None = None,
    slope: float = 1.0,
) -> BFloat16[Tensor, "b o h w"]:
    """The convolution of x, with bias and activation."""
    added = None if bias is None else bias.detach().contiguous()  # has to be there as long as its address is used
    return _run(x, weight, library.Epilogue(bias=None if added is None else added.data_ptr(), slope=slope))


def input_gradient(
    gradient: BFloat16[Tensor, "b o h w"], weight: Float32[Tensor, "o i 3 3"]
) -> BFloat16[Tensor, "b i h w"]:
    """Gradient of the input of a convolution, from that of its result."""
    return _run(gradient, weight, library.Epilogue(slope=1.0), flipped=True)


def correlate_with_moments(
    x: BFloat16[Tensor, "b i h w"], weight: Float32[Tensor, "o i 3 3"], before: Affine | None = None
) -> tuple[BFloat16[Tensor, "b o h w"], Moments]:
    """The convolution of x, normalised `before` that, and the moments of the result."""
    parts = _empty_sums(x, weight.shape[0])
    counts = torch.empty(len(parts))
    epilogue = library.Epilogue(slope=1.0, moments=parts.data_ptr(), counts=counts.data_ptr())
    return _run(x, weight, epilogue, before=before), moments_from_parts(parts, counts, x.numel() // x.shape[1])


def gradient_before(
    gradient: BFloat16[Tensor, "b o h w"],
    weight: Float32[Tensor, "o i 3 3"],
    x: BFloat16[Tensor, "b i h w"],
    of: Affine,
) -> tuple[BFloat16[Tensor, "b i h w"], Float64[Tensor, "2 i"]]:
    """Gradient of what stands before the activation in the convolution of the normalised x, from that of the result.

    With its sum by channel, and that of its products with x - mean.
    """
    parts = _empty_sums(gradient, weight.shape[1])
    epilogue = library.Epilogue(slope=1.0, sums=parts.data_ptr(), x=x.data_ptr(), of=of.reference)
    return _run(gradient, weight, epilogue, flipped=True), parts.sum(0, dtype=torch.float64)


def weight_gradient(
    x: BFloat16[Tensor, "b i h w"],
    gradient: BFloat16[Tensor, "b o h w"],
    weight: Float32[Tensor, "o i 3 3"],
    before: Affine | None = None,
) -> Float32[Tensor, "o i 3 3"]:
    """Gradient of the weights of the convolution of x, normalised `before` that, laid out like the weights."""
    compiled, threads = load_library(), torch.get_num_threads()
    result = torch.empty_like(weight)
    o, i = weight.shape[:2]
    b, _, h, w = x.shape
    compiled.jcl_direct_gradient(
        x.data_ptr(), before and before.reference, gradient.data_ptr(), library.weights_of(result), b, h, w,
        _scratch(compiled.jcl_direct_gradient_work(b, h, w, i, o, threads)), threads,
    )  # fmt: skip
    return result


def _run(
    x: Tensor, weight: Tensor, epilogue: library.Epilogue, *, flipped: bool = False, before: Affine | None = None
) -> Tensor:
    compiled, threads = load_library(), torch.get_num_threads()
    weights = library.weights_of(weight, flipped=flipped)
    rows, columns = weights.rows, weights.columns
    b, _, h, w = x.shape
    if x.dtype != torch.bfloat16 or weight.dtype != torch.float32:
        raise ValueError(f"bfloat16 with weights in float32 is what these kernels take, not {x.dtype}, {weight.dtype}")
    if rows % CHANNELS or columns % CHANNELS or x.shape[1] != rows or weight.shape[2:] != (3, 3):
        raise ValueError(f"weights of {tuple(weight.shape)} for {x.shape[1]} channels, which go by {CHANNELS}")
    y = empty_channels_last(x, b, columns, h, w)
    compiled.jcl_direct_convolve(
        x.data_ptr(), before and before.reference, weights, y.data_ptr(), b, h, w, epilogue,
        _scratch(compiled.jcl_direct_work(b, h, w, rows, columns, threads)), threads,
    )  # fmt: skip
    return y


def _empty_sums(x: Tensor, channels: int) -> Tensor:
    """For two sums a channel of each band of a convolution of x."""
    b, i, h, w = x.shape
    return torch.empty(load_library().jcl_direct_bands(b, h, w, i), 2, channels)


def _scratch(size: int) -> ctypes.c_void_p:
    """Bytes that this thread keeps from call to call: fetched anew, the system would fill them with zeros each time."""
    found: Tensor | None = getattr(_kept, "work", None)
    if found is None or len(found) < size:
        found = _kept.work = torch.empty(size, dtype=torch.uint8)  # at a multiple of 64, as all of PyTorch's
    return ctypes.c_void_p(found.data_ptr())
