"""Optimisers and the learning-rate schedule."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from jcl.errors import UsageError


def cosine(step: int, steps: int, *, peak: float, final: float = 0.0, warmup: int = 0) -> float:
    """Learning rate of step number `step` (from 0): a linear rise over `warmup` steps, then a cosine to `final`.

    Set at every iteration, as in the JCL paper (section 4.1).

    Examples:
        >>> [round(cosine(s, 4, peak=1.0), 3) for s in range(4)]
        [1.0, 0.854, 0.5, 0.146]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return final + (peak - final) * (1 + math.cos(math.pi * progress)) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give all parameter groups the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def sgd(parameters: Iterable[nn.Parameter], *, weight_decay: float, decays_all: bool = True) -> torch.optim.SGD:
    """SGD with momentum 0.9 for pre-training (paper: SGD; momentum and weight decay are our choice).

    Without `decays_all` parameters of one dimension, which are biases and scales of normalisations, do not decay.
    """
    if decays_all:
        return torch.optim.SGD(parameters, lr=0.0, momentum=0.9, weight_decay=weight_decay)
    held = list(parameters)
    groups = [
        {"params": [p for p in held if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in held if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=0.0, momentum=0.9)


def clip_each(parameters: Iterable[nn.Parameter], limit: float) -> None:
    """Scale the gradient of each parameter whose norm is above the limit down to it (DINO's program)."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_((limit / (parameter.grad.norm() + 1e-6)).clamp(max=1))


def adam(parameters: Iterable[nn.Parameter], *, weight_decay: float = 0.0) -> torch.optim.Adam:
    """Adam for fine-tuning (paper, section 4.1); the weight decay is added to the gradient."""
    held = list(parameters)
    # on a CPU one pass over each parameter, where plain Adam takes several; elsewhere what PyTorch chooses
    fused = True if all(parameter.device.type == "cpu" for parameter in held) else None
    return torch.optim.Adam(held, lr=0.0, weight_decay=weight_decay, fused=fused)


def budget(*, epochs: int | None, steps: int | None, batches: int, least: int) -> int:
    """Number of steps: `steps`, or `epochs` passes over `batches`, or by default 100 passes but `least` steps.

    Small collections need the floor: 100 passes over 300 slices are too few steps to learn from.

    Raises:
        UsageError: both are given, or the number is not positive.
    """
    if steps is not None and epochs is not None:
        raise UsageError("give --epochs or --steps, not both")
    if steps is None:
        steps = max(100 * batches, least) if epochs is None else epochs * batches
    if steps < 1:
        raise UsageError(f"{steps} steps; at least 1 is needed")
    return steps
