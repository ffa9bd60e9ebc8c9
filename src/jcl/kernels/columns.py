"""3 x 3 convolutions as one product of matrices: where there are few pixels, or few channels to sum over."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["convolve_columns"]


def convolve_columns(x: Float[Tensor, "b i h w"], weight: Float[Tensor, "o i 3 3"]) -> Float[Tensor, "b o h w"]:
    """What `conv2d(x, weight, padding=1)` computes, from the neighbourhoods of all pixels as rows of a matrix.

    That matrix has 9 times the values of x, and is the price. The result is in channels-last layout.
    """
    return _Columns.apply(x, weight)  # pyright: ignore[reportReturnType]


class _Columns(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(x, weight)
        b, _, h, w = x.shape
        return (_columns(x) @ _rows(weight).T).view(b, h, w, -1).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        gradient = grad_output.permute(0, 2, 3, 1).reshape(-1, weight.shape[0])
        of_x = _gather(gradient @ _rows(weight), x) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return of_x, None
        o, i = weight.shape[:2]
        return of_x, (gradient.T @ _columns(x)).view(o, 3, 3, i).permute(0, 3, 1, 2)


def _rows(weight: Tensor) -> Tensor:
    """(o, 9 i), which is how weights lie in channels-last layout."""
    return weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1)


def _columns(x: Tensor) -> Tensor:
    """(b h w, 9 i): the neighbourhood of each pixel, zeros where it is off the image."""
    b, i, h, w = x.shape
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()
    step, line, _, _ = padded.stride()
    return padded.as_strided((b, h, w, 3, 3, i), (step, line, i, line, i, 1)).reshape(b * h * w, 9 * i)


def _gather(columns: Tensor, x: Tensor) -> Tensor:
    """The sum of what each pixel of x got in the neighbourhoods of nine."""
    b, i, h, w = x.shape
    parts = columns.view(b, h, w, 3, 3, i)
    padded = columns.new_zeros(b, h + 2, w + 2, i)
    for dy in range(3):
        for dx in range(3):
            padded[:, dy : dy + h, dx : dx + w] += parts[:, :, :, dy, dx]
    return padded[:, 1:-1, 1:-1].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
