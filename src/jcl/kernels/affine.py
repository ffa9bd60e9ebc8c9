"""The moments of a batch, and the normalisation with an activation that they make."""

import ctypes
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor, distributed

from jcl.distributed.comm import world_size
from jcl.kernels import library

__all__ = ["Affine", "Moments", "affine_of", "moments_from_parts"]


class Moments(NamedTuple):
    """Mean and biased variance of each channel over the batches of all processes."""

    mean: Float64[Tensor, " c"]
    variance: Float64[Tensor, " c"]


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


def affine_of(
    moments: Moments, weight: Float32[Tensor, " c"], bias: Float32[Tensor, " c"], epsilon: float, slope: float
) -> tuple[Affine, Float64[Tensor, " c"]]:
    """What normalising by the moments does to a value, and one over the standard deviation."""
    deviation = torch.rsqrt(moments.variance + epsilon)
    return Affine(moments.mean.float(), (weight * deviation).float(), bias.contiguous(), slope), deviation


def moments_from_parts(parts: Float32[Tensor, "n 2 c"], counts: Float[Tensor, " n"], rows: int) -> Moments:
    """From the mean of each block of values, and the sum of squared distances from it; `rows` is the sum of counts.

    They are put together as Chan, Golub and LeVeque (1979) do, in float64: nothing large is subtracted from its like.
    """
    means, squares = parts.double().unbind(1)
    counts = counts.double()[:, None]
    mean = (means * counts).sum(0) / rows
    variance = (squares + counts * (means - mean) ** 2).sum(0) / rows
    if world_size() > 1:
        of_all = [torch.empty(2, len(mean), dtype=torch.float64) for _ in range(world_size())]
        distributed.all_gather(of_all, torch.stack([mean, variance]))  # pyright: ignore[reportPrivateImportUsage]
        means, variances = torch.stack(of_all).unbind(1)
        mean = means.mean(0)
        variance = (variances + (means - mean) ** 2).mean(0)
    return Moments(mean, variance)
