"""Calls of the C code for 3 x 3 convolutions in bfloat16, as one product of matrices with sums in float32.

On processors with AMX the products are those of its tiles; on others the same code goes by vectors, slowly.
"""

import torch
from torch import Tensor

from jcl.kernels import library
from jcl.kernels.affine import Affine
from jcl.kernels.library import load_library, scratch

__all__ = ["CHANNELS", "blocks", "channels", "convolve", "weight_gradient"]

CHANNELS = 16
"""What channels have to be a multiple of."""


def channels() -> int:
    """What channels have to be a multiple of."""
    return CHANNELS


def blocks(b: int, i: int, h: int, w: int) -> int:
    """Bands of a convolution of (b, i, h, w), which have sums of their own."""
    return load_library().jcl_direct_bands(b, h, w, i)


def convolve(x: Tensor, before: Affine | None, weights: library.Weights, y: Tensor, epilogue: library.Epilogue) -> None:
    """Write the convolution of x to y."""
    compiled, threads = load_library(), torch.get_num_threads()
    b, _, h, w = x.shape
    work = scratch(compiled.jcl_direct_work(b, h, w, weights.rows, weights.columns, threads))
    reference = before and before.reference
    compiled.jcl_direct_convolve(x.data_ptr(), reference, weights, y.data_ptr(), b, h, w, epilogue, work, threads)


def weight_gradient(x: Tensor, gradient: Tensor, result: library.Weights, before: Affine | None) -> None:
    """Write the gradient of the weights to `result`."""
    compiled, threads = load_library(), torch.get_num_threads()
    b, _, h, w = x.shape
    work = scratch(compiled.jcl_direct_gradient_work(b, h, w, result.rows, result.columns, threads))
    reference = before and before.reference
    compiled.jcl_direct_gradient(x.data_ptr(), reference, gradient.data_ptr(), result, b, h, w, work, threads)
