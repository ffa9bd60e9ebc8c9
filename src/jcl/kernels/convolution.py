"""3 x 3 convolutions by Winograd's tiles (Lavin and Gray, 2015, arXiv:1509.09308), with gradients."""

import threading
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from jcl.kernels.library import load_library

__all__ = ["convolve"]

TILES = 24
"""Tiles of 4 x 4 outputs that a thread takes at a time: their frequencies stay in its cache."""

GRADIENT_TILES = 96
"""The same for the gradient of weights where channels are many, which all threads share."""

FEW_CHANNELS = 64 * 64
"""Inputs times outputs up to which each thread sums tiles of its own for the gradient of weights."""

FEW_TILES, PARTS = 32, 16
"""Of such a sum: tiles at a time, and the parts of all tiles. Fixed, so that threads do not matter."""

_kept = threading.local()


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
    lanes = load_library().jcl_lanes()
    if x.dtype != torch.float32 or weight.dtype != torch.float32 or x.device.type != "cpu":
        raise ValueError(f"the kernels take float32 on a CPU, not {x.dtype} on {x.device}")
    if weight.shape[0] % lanes or weight.shape[1] % lanes or weight.shape[1:] != (x.shape[1], 3, 3):
        raise ValueError(f"weights of {tuple(weight.shape)} for {x.shape[1]} channels, which go by {lanes}")
    if torch.is_grad_enabled():
        y: Tensor = _Convolution.apply(x, weight)  # pyright: ignore[reportAssignmentType]
        y = y if bias is None else y + bias[:, None, None]
        return y if slope == 1 else F.leaky_relu(y, slope)
    return _run(x.contiguous(memory_format=torch.channels_last), weight, turned=False, bias=bias, slope=slope)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        return _run(x, weight, turned=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        gradient = grad_output.contiguous(memory_format=torch.channels_last)
        of_x = _run(gradient, weight, turned=True) if ctx.needs_input_grad[0] else None
        return of_x, _weight_gradient(x, gradient, weight) if ctx.needs_input_grad[1] else None


def _run(x: Tensor, weight: Tensor, *, turned: bool, bias: Tensor | None = None, slope: float = 1.0) -> Tensor:
    """The convolution, or with `turned` weights the gradient of its input."""
    library, threads = load_library(), torch.get_num_threads()
    inner, outer = (0, 1) if turned else (1, 0)
    rows, columns = weight.shape[inner], weight.shape[outer]
    panel = 2 * library.jcl_lanes()
    steps = (weight.stride(inner), weight.stride(outer), weight.stride(2), weight.stride(3))
    frequencies = _scratch("weights", 36 * rows * -(-columns // panel) * panel)
    library.jcl_weights_to_frequencies(
        weight.data_ptr(), frequencies.data_ptr(), rows, columns, *steps, int(turned), threads
    )
    b, _, h, w = x.shape
    y = torch.empty((b, columns, h, w), dtype=x.dtype, memory_format=torch.channels_last)
    added = None if bias is None else bias.contiguous()  # has to be there as long as its address is used
    library.jcl_convolve(
        x.data_ptr(), frequencies.data_ptr(), y.data_ptr(), b, h, w, rows, columns,
        None if added is None else added.data_ptr(), slope,
        _scratch("work", library.jcl_convolve_work(rows, TILES, threads)).data_ptr(), _zeros(rows), TILES, threads,
    )  # fmt: skip
    return y


def _weight_gradient(x: Tensor, gradient: Tensor, weight: Tensor) -> Tensor:
    library, threads = load_library(), torch.get_num_threads()
    outputs, inputs = weight.shape[:2]
    b, _, h, w = x.shape
    panel = 2 * library.jcl_lanes()
    tiles, parts = (FEW_TILES, PARTS) if inputs * outputs <= FEW_CHANNELS else (GRADIENT_TILES, 1)
    sums = _scratch("weights", parts * 36 * inputs * -(-outputs // panel) * panel)
    library.jcl_weight_gradient(
        x.data_ptr(), gradient.data_ptr(), sums.data_ptr(), b, h, w, inputs, outputs,
        _scratch("work", library.jcl_weight_gradient_work(inputs, outputs, tiles, threads)).data_ptr(),
        _zeros(max(inputs, outputs)), tiles, parts, threads,
    )  # fmt: skip
    result = torch.empty_like(weight)
    steps = (result.stride(1), result.stride(0), result.stride(2), result.stride(3))
    library.jcl_frequencies_to_weights(sums.data_ptr(), result.data_ptr(), inputs, outputs, *steps, threads)
    return result


def _scratch(name: str, size: int) -> Tensor:
    """Memory that this thread keeps from call to call: fetched anew, the system would fill it with zeros each time."""
    found: Tensor | None = getattr(_kept, name, None)
    if found is None or len(found) < size:
        found = torch.empty(size, dtype=torch.float32)
        setattr(_kept, name, found)
    return found


def _zeros(count: int) -> int:
    """Address of so many zeros."""
    found: Tensor | None = getattr(_kept, "zeros", None)
    if found is None or len(found) < count:
        found = _kept.zeros = torch.zeros(count, dtype=torch.float32)
    return found.data_ptr()
