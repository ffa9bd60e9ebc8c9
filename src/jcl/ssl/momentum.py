"""Teachers: networks that follow a student as a moving average of its weights (MoCo, BYOL, JCL with EMA)."""

import copy
import math
from typing import TypeVar

import torch
from torch import nn

__all__ = ["cosine_momentum", "make_teacher", "update_ema"]

Module = TypeVar("Module", bound=nn.Module)


def make_teacher(student: Module) -> Module:
    """A copy of the student that gets no gradient; keep it as a submodule, so that it is saved and resumed."""
    return copy.deepcopy(student).requires_grad_(False)


@torch.no_grad()
def update_ema(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher = momentum * teacher + (1 - momentum) * student, for every parameter.

    The statistics of batch normalisation are the teacher's own, from the batches that it sees (as in MoCo and BYOL).
    """
    for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
        old.lerp_(new, 1 - momentum)


def cosine_momentum(progress: float, base: float) -> float:
    """Momentum that rises from `base` to 1 over the run (BYOL, arXiv:2006.07733, section 3.3).

    1 - (1 - base) (cos(pi progress) + 1) / 2

    Examples:
        >>> [round(cosine_momentum(p, 0.99), 4) for p in (0.0, 0.5, 1.0)]
        [0.99, 0.995, 1.0]
    """
    return 1 - (1 - base) * (math.cos(math.pi * progress) + 1) / 2
