"""Batch normalisation and the (leaky) ReLU behind it in one, with gradients, over the slices of all processes."""

from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from jcl.distributed import processes
from jcl.kernels.library import load_library

__all__ = ["normalise"]


def normalise(
    x: Float32[Tensor, "b c h w"],
    weight: Float32[Tensor, " c"],
    bias: Float32[Tensor, " c"],
    *,
    epsilon: float,
    slope: float,
) -> tuple[Float32[Tensor, "b c h w"], Float32[Tensor, " c"], Float32[Tensor, " c"], int]:
    """Normalise by the mean and variance of the batch (Ioffe and Szegedy, 2015, arXiv:1502.03167), then activate.

    Both are those of the batches of all processes, which have as many pixels each.

    Args:
        x: float32 on a CPU, channels last or brought to it, channels a multiple of the kernels' lanes.
        weight: factor of the normalised values.
        bias: what is added to them.
        epsilon: added to the variance.
        slope: of negative values behind it: 0 for ReLU, 1 for none.

    Returns:
        The values, and for running statistics the mean, the (biased) variance and the number of values they are of.
    """
    y, mean, variance = _Normalisation.apply(x, weight, bias, epsilon, slope)  # pyright: ignore[reportGeneralTypeIssues]
    return y, mean, variance, processes() * x.numel() // x.shape[1]


class _Normalisation(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, slope: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        library, threads = load_library(), torch.get_num_threads()
        x = x.contiguous(memory_format=torch.channels_last)
        channels = x.shape[1]
        rows = x.numel() // channels
        mean, variance = _moments(x, rows, channels)
        deviation = torch.rsqrt(variance + epsilon)
        scale = (weight.double() * deviation).float()
        centre, shift = mean.float(), bias.detach().float().contiguous()
        y = torch.empty_like(x, memory_format=torch.channels_last)
        library.jcl_normalise(
            x.data_ptr(), y.data_ptr(), rows, channels, centre.data_ptr(), scale.data_ptr(), shift.data_ptr(),
            slope, threads,
        )  # fmt: skip
        ctx.save_for_backward(x, centre, scale, shift, deviation)
        ctx.slope = slope
        statistics = centre.clone(), variance.float()
        ctx.mark_non_differentiable(*statistics)
        return y, *statistics

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        library, threads = load_library(), torch.get_num_threads()
        x, centre, scale, shift, deviation = ctx.saved_tensors
        gradient = grad_output.contiguous(memory_format=torch.channels_last)
        channels = x.shape[1]
        rows = x.numel() // channels
        shared = (rows, channels, centre.data_ptr(), scale.data_ptr(), shift.data_ptr())
        parts = torch.empty(library.jcl_blocks(rows), 2, channels, dtype=x.dtype)
        library.jcl_gradient_sums(x.data_ptr(), gradient.data_ptr(), *shared, ctx.slope, parts.data_ptr(), threads)
        own = parts.sum(0, dtype=torch.float64)
        total = own.clone()
        if processes() > 1:
            distributed.all_reduce(total)  # pyright: ignore[reportPrivateImportUsage]
        total /= processes() * rows
        mean_g = (total[0] * scale).float()
        along_g = (total[1] * scale * deviation**2).float()
        of_x = torch.empty_like(x, memory_format=torch.channels_last)
        library.jcl_normalise_gradient(
            x.data_ptr(), gradient.data_ptr(), of_x.data_ptr(), *shared, mean_g.data_ptr(), along_g.data_ptr(),
            ctx.slope, threads,
        )  # fmt: skip
        # each process has its own share of these two: gradients are averaged over processes later
        return of_x, (own[1] * deviation).float(), own[0].float(), None, None


def _moments(x: Tensor, rows: int, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel over all processes, in float64.

    Those of blocks are put together as Chan, Golub and LeVeque (1979) do: nothing large is subtracted from its like.
    """
    library = load_library()
    blocks, size = library.jcl_blocks(rows), library.jcl_block_rows()
    parts = torch.empty(blocks, 2, channels, dtype=x.dtype)
    library.jcl_moments(x.data_ptr(), rows, channels, parts.data_ptr(), torch.get_num_threads())
    means, squares = parts.double().unbind(1)
    counts = torch.full((blocks, 1), size, dtype=torch.float64)
    counts[-1] = rows - size * (blocks - 1)
    mean = (means * counts).sum(0) / rows
    square = (squares + counts * (means - mean) ** 2).sum(0)
    if processes() == 1:
        return mean, square / rows
    of_all = [torch.empty(2, channels, dtype=torch.float64) for _ in range(processes())]
    distributed.all_gather(of_all, torch.stack([mean, square / rows]))  # pyright: ignore[reportPrivateImportUsage]
    means, variances = torch.stack(of_all).unbind(1)
    mean = means.mean(0)
    return mean, (variances + (means - mean) ** 2).mean(0)
