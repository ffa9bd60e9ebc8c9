"""Calls of the C code for 3 x 3 convolutions in float32 by Winograd's tiles (Lavin, Gray, 2015, arXiv:1509.09308)."""

import torch
from torch import Tensor

from jcl.kernels import library
from jcl.kernels.affine import Affine
from jcl.kernels.library import load_library, scratch

__all__ = ["blocks", "channels", "convolve", "weight_gradient"]

FLOAT = 4
"""Bytes."""


def channels() -> int:
    """What channels have to be a multiple of."""
    return load_library().jcl_lanes()


def blocks(b: int, i: int, h: int, w: int) -> int:
    """Blocks of a convolution of (b, i, h, w), which have sums of their own."""
    return load_library().jcl_convolve_blocks(b, h, w)


def convolve(x: Tensor, before: Affine | None, weights: library.Weights, y: Tensor, epilogue: library.Epilogue) -> None:
    """Write the convolution of x to y."""
    compiled, threads = load_library(), torch.get_num_threads()
    b, _, h, w = x.shape
    work = scratch(FLOAT * compiled.jcl_convolve_work(weights.rows, weights.columns, threads))
    reference = before and before.reference
    compiled.jcl_convolve(x.data_ptr(), reference, weights, y.data_ptr(), b, h, w, epilogue, work, threads)


def weight_gradient(x: Tensor, gradient: Tensor, result: library.Weights, before: Affine | None) -> None:
    """Write the gradient of the weights to `result`."""
    compiled, threads = load_library(), torch.get_num_threads()
    b, _, h, w = x.shape
    work = scratch(FLOAT * compiled.jcl_weight_gradient_work(result.rows, result.columns, threads))
    reference = before and before.reference
    compiled.jcl_weight_gradient(x.data_ptr(), reference, gradient.data_ptr(), result, b, h, w, work, threads)
