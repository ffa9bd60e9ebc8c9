"""Maximum of 2 x 2 pixels, which remembers one byte a maximum and not its input."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from jcl.kernels.library import function_for
from jcl.kernels.operators import call, differentiable, empty_channels_last, operator

__all__ = ["pool"]


def pool(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h//2 w//2"]:
    """What `max_pool2d(x, 2)` computes, on a CPU, in channels-last layout; channels a multiple of the kernels' lanes.

    PyTorch's keeps its input for the way back, and 8 bytes per maximum. Here the input can go: in the encoder of a
    U-Net the largest arrays of all, where nothing else needs them.
    """
    return call("pooling", x)[0]


def _empty(x: Tensor) -> tuple[Tensor, Tensor]:
    b, c, h, w = x.shape
    y = empty_channels_last(x, b, c, h // 2, w // 2)
    return y, torch.empty_like(y, dtype=torch.uint8)


@operator("pooling(Tensor x) -> (Tensor, Tensor)", fake=_empty)
def _pooling(x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.contiguous(memory_format=torch.channels_last)
    b, c, h, w = x.shape
    y, where = _empty(x)
    function_for("jcl_pool", x)(x.data_ptr(), y.data_ptr(), where.data_ptr(), b, h, w, c, torch.get_num_threads())
    return y, where


def _save(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.size = inputs[0].shape[2:]


@differentiable("pooling", _save)
def _gradient(ctx: Any, gradient: Tensor, _: Any) -> Tensor:
    return call("pooling_backward", gradient, *ctx.saved_tensors, *ctx.size)


def _fake_gradient(gradient: Tensor, where: Tensor, h: int | torch.SymInt, w: int | torch.SymInt) -> Tensor:
    return empty_channels_last(gradient, *gradient.shape[:2], h, w)


@operator("pooling_backward(Tensor gradient, Tensor where, SymInt h, SymInt w) -> Tensor", fake=_fake_gradient)
def _pooling_backward(gradient: Tensor, where: Tensor, h: int, w: int) -> Tensor:
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    b, c = gradient.shape[:2]
    of_x = empty_channels_last(gradient, b, c, h, w)
    function_for("jcl_pool_gradient", gradient)(
        gradient.data_ptr(), where.data_ptr(), of_x.data_ptr(), b, h, w, c, torch.get_num_threads()
    )
    return of_x
