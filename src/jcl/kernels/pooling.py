"""Maximum of 2 x 2 pixels, which remembers one byte a maximum and not its input."""

from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.autograd.function import once_differentiable

from jcl.kernels.library import load_library

__all__ = ["pool"]


def pool(x: Float32[Tensor, "b c h w"]) -> Float32[Tensor, "b c h//2 w//2"]:
    """What `max_pool2d(x, 2)` computes, on a CPU, in channels-last layout; channels a multiple of the kernels' lanes.

    PyTorch's keeps its input for the way back, and 8 bytes a maximum. Here the input can go: in the encoder of a U-Net
    the largest arrays of all, where nothing else needs them.
    """
    return _Pooling.apply(x)  # pyright: ignore[reportReturnType]


class _Pooling(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        x = x.contiguous(memory_format=torch.channels_last)
        b, c, h, w = x.shape
        y = torch.empty((b, c, h // 2, w // 2), dtype=x.dtype, memory_format=torch.channels_last)
        where = torch.empty_like(y, dtype=torch.uint8)
        load_library().jcl_pool(x.data_ptr(), y.data_ptr(), where.data_ptr(), b, h, w, c, torch.get_num_threads())
        ctx.save_for_backward(where)
        ctx.shape = x.shape
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (where,) = ctx.saved_tensors
        b, c, h, w = ctx.shape
        gradient = grad_output.contiguous(memory_format=torch.channels_last)
        of_x = torch.empty((b, c, h, w), dtype=gradient.dtype, memory_format=torch.channels_last)
        load_library().jcl_pool_gradient(
            gradient.data_ptr(), where.data_ptr(), of_x.data_ptr(), b, h, w, c, torch.get_num_threads()
        )
        return of_x
