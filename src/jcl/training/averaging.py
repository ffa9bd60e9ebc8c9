"""Weights averaged over the steps of a training: less noisy than the last ones, and no choice on any score."""

import copy
from typing import TypeVar

import torch
from torch import nn

__all__ = ["averaged_copy", "update_average"]

Model = TypeVar("Model", bound=nn.Module)


def averaged_copy(model: Model) -> Model:
    """A copy of the model to keep the average in; it is not trained."""
    return copy.deepcopy(model).requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, *, step: int, decay: float) -> None:
    """Take step number `step` (from 1) into an exponential moving average, its running statistics too.

    The first steps weigh less than `decay` says, as min(decay, (1 + step) / (10 + step)), so that the random
    weights of the beginning are forgotten (as in TensorFlow's ExponentialMovingAverage).
    """
    keep = min(decay, (1 + step) / (10 + step))
    for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - keep)
        else:
            kept.copy_(new)
