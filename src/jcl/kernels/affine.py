"""The moments of a batch, and the normalisation with an activation that they make."""

import ctypes
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor, distributed

from jcl.distributed import processes
from jcl.kernels import library
from jcl.kernels.library import load_library

__all__ = ["Affine", "Moments", "moments_from_parts", "moments_of"]


class Moments(NamedTuple):
    """Mean and biased variance of each channel over the batches of all processes, and of how many values."""

    mean: Float64[Tensor, " c"]
    variance: Float64[Tensor, " c"]
    values: int


@dataclass(frozen=True)
class Affine:
    """activation((x - mean) * scale + shift), by channel; `slope` is that of negative values."""

    mean: Float32[Tensor, " c"]
    scale: Float32[Tensor, " c"]
    shift: Float32[Tensor, " c"]
    slope: float

    @property
    def reference(self) -> "ctypes._Pointer[library.Affine]":  # pyright: ignore[reportPrivateUsage]
        """As the C functions take it; lives as long as the tensors here."""
        addresses = (tensor.data_ptr() for tensor in (self.mean, self.scale, self.shift))
        return ctypes.pointer(library.Affine(*addresses, self.slope))


def moments_of(x: Float32[Tensor, "b c h w"]) -> Moments:
    """Of an array in channels-last layout."""
    compiled, channels = load_library(), x.shape[1]
    rows = x.numel() // channels
    blocks, size = compiled.jcl_blocks(rows), compiled.jcl_block_rows()
    parts = torch.empty(blocks, 2, channels)
    compiled.jcl_moments(x.data_ptr(), rows, channels, parts.data_ptr(), torch.get_num_threads())
    counts = torch.full((blocks,), float(size))
    counts[-1] = rows - size * (blocks - 1)
    return moments_from_parts(parts, counts)


def moments_from_parts(parts: Float32[Tensor, "n 2 c"], counts: Float[Tensor, " n"]) -> Moments:
    """From the mean of each block of values, and the sum of squared distances from it.

    They are put together as Chan, Golub and LeVeque (1979) do, in float64: nothing large is subtracted from its like.
    """
    means, squares = parts.double().unbind(1)
    counts = counts.double()[:, None]
    rows = round(float(counts.sum()))
    mean = (means * counts).sum(0) / rows
    variance = (squares + counts * (means - mean) ** 2).sum(0) / rows
    if processes() > 1:
        of_all = [torch.empty(2, len(mean), dtype=torch.float64) for _ in range(processes())]
        distributed.all_gather(of_all, torch.stack([mean, variance]))  # pyright: ignore[reportPrivateImportUsage]
        means, variances = torch.stack(of_all).unbind(1)
        mean = means.mean(0)
        variance = (variances + (means - mean) ** 2).mean(0)
    return Moments(mean, variance, processes() * rows)
