"""Batch normalisation over the slices of all processes, on any device (PyTorch's SyncBatchNorm needs GPUs)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from jcl.distributed.comm import world_size

__all__ = ["SharedBatchNorm", "convert_sync_batchnorm", "update_running_statistics"]


class SharedBatchNorm(_BatchNorm):
    """Batch normalisation whose mean and variance are those of all processes; in one process the usual one.

    Input (b, c) or (b, c, h, w), with as many slices in every process.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"an input of {input.ndim} dimensions has no channels")

    def forward(self, input: Float[Tensor, "b c ..."]) -> Float[Tensor, "b c ..."]:
        """Normalise, and let the running statistics follow those of all slices."""
        if world_size() == 1 or not self.training:
            return super().forward(input)
        x = input.float()
        over, shape = [0, *range(2, x.ndim)], [1, -1] + [1] * (x.ndim - 2)
        mean = _mean(x.mean(over))
        # around the common mean: the mean square less the squared mean loses digits where the mean is large
        centred = x - mean.view(shape)
        variance = _mean(centred.square().mean(over))
        update_running_statistics(self, mean.detach(), variance.detach(), world_size() * x.numel() // x.shape[1])
        result = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            result = torch.addcmul(self.bias.view(shape), result, self.weight.view(shape))
        return result.to(input.dtype)


def update_running_statistics(
    norm: _BatchNorm, mean: Float[Tensor, " c"], variance: Float[Tensor, " c"], count: int
) -> None:
    """By those of a batch: `variance` is the biased one of `count` values."""
    if not norm.track_running_stats or norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, share)
    norm.running_var.lerp_(variance * (count / max(count - 1, 1)), share)


def convert_sync_batchnorm(network: nn.Module, device: torch.device) -> None:
    """Make every BatchNorm below `network` normalise over all processes; with one process nothing changes.

    Weights and buffers are the same objects as before, under the same names. On a GPU it is PyTorch's own layer.
    """
    if world_size() == 1:
        return
    kind = nn.SyncBatchNorm if device.type == "cuda" else SharedBatchNorm
    for parent in list(network.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, _BatchNorm) and not isinstance(norm, (SharedBatchNorm, nn.SyncBatchNorm)):
                setattr(parent, name, _converted(norm, kind))


def _converted(norm: _BatchNorm, kind: type[nn.SyncBatchNorm] | type[SharedBatchNorm]) -> nn.Module:
    """A layer of another kind with the weights and buffers of `norm`, the same objects."""
    shared = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for name, parameter in norm.named_parameters(recurse=False):
        setattr(shared, name, parameter)
    for name, buffer in norm.named_buffers(recurse=False):
        setattr(shared, name, buffer)
    return shared.train(norm.training)


def _mean(own: Float[Tensor, " c"]) -> Float[Tensor, " c"]:
    return _Sum.apply(own) / world_size()  # pyright: ignore[reportOperatorIssue, reportReturnType]


class _Sum(torch.autograd.Function):
    """Sum over processes. What each does with the sum it does for all, so the gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        total = own.clone()
        distributed.all_reduce(total)  # pyright: ignore[reportPrivateImportUsage]
        return total

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        total = grad_output.clone()
        distributed.all_reduce(total)  # pyright: ignore[reportPrivateImportUsage]
        return total
