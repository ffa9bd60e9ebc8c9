"""Optimisers and the learning-rate schedule."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from jcl.errors import UsageError


def cosine(step: int, steps: int, *, peak: float, final: float = 0.0, warmup: int = 0) -> float:
    """Learning rate of step number `step` (from 0): a linear rise over `warmup` steps, then a cosine to `final`.

    Set at every iteration, as in the JCL paper (section 4.1).

    Example:
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


def sgd(parameters: Iterable[nn.Parameter], *, weight_decay: float) -> torch.optim.SGD:
    """SGD with momentum 0.9 for pre-training (paper: SGD; momentum and weight decay are our choice)."""
    held = list(parameters)
    optimizer = torch.optim.SGD(held, lr=0.0, momentum=0.9, weight_decay=weight_decay, fused=_is_fused(held))
    optimizer.register_step_pre_hook(_begin_momentum)
    return optimizer


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Adam:
    """Adam for fine-tuning (paper, section 4.1)."""
    held = list(parameters)
    return torch.optim.Adam(held, lr=0.0, fused=_is_fused(held))


def _begin_momentum(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """Momentum 0 for parameters whose first gradient this is: what plain SGD makes of none.

    PyTorch's fused SGD fails where some parameters get their first gradient later than others, as those of a second stage.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None and optimizer.state[parameter].get("momentum_buffer") is None:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _is_fused(parameters: Sequence[nn.Parameter]) -> bool | None:
    """On a CPU one pass over each parameter, where several would each read and write it; else PyTorch's own choice."""
    return True if all(parameter.device.type == "cpu" for parameter in parameters) else None


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
