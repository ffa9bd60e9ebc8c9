"""The layer of Kolmogorov-Arnold networks (Liu et al., 2024, arXiv:2404.19756)."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["KANLinear", "spline_basis"]

INTERVALS = 5
"""Intervals of equal length into which the knots part [-1, 1]; three more lie beyond each end."""

BASES = INTERVALS + 3
"""Cubic B-splines that are not zero everywhere on [-1, 1]."""

NOISE = 0.1
"""The splines begin as curves through values drawn from ±NOISE / 2 / INTERVALS at the knots."""


def spline_basis(x: Float[Tensor, "n c"]) -> Float[Tensor, "n s c"]:
    """Values of the cubic B-splines on the uniform grid at each x, in at least float32.

    Spline i is not zero between the knots i and i + 4 of -1 + 0.4 (-3, …, 8). All are the same curve, moved: with t the
    distance from its middle in intervals, (2 - t)₊³ / 6 - 2 (1 - t)₊³ / 3, which is what the recursion of Cox and de
    Boor comes to on a uniform grid. Beyond the outer knots all are zero.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    # A traced network cannot be saved with a function of Python in it; without gradients there is no need of one.
    return _Basis.apply(x) if torch.is_grad_enabled() and x.requires_grad else _values(x)


def _values(x: Float[Tensor, "n c"]) -> Float[Tensor, "n s c"]:
    wide, narrow = _tents(_offsets(x).abs_())
    return wide.pow_(3).mul_(1 / 6).sub_(narrow.pow_(3), alpha=2 / 3)


class _Basis(torch.autograd.Function):
    """Keeps x alone for the way back, where autograd would keep several tensors of the size of the output."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(x)
        return _values(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        offsets = _offsets(x)
        side = offsets.sign()
        wide, narrow = _tents(offsets.abs_())
        slope = wide.square_().mul_(-0.5).add_(narrow.square_(), alpha=2).mul_(side)
        return slope.mul_(grad_output).sum(1).mul_(INTERVALS / 2)


def _offsets(x: Float[Tensor, "n c"]) -> Float[Tensor, "n s c"]:
    """How far x lies from the middle of each spline, in intervals.

    The splines come before the channels, so that the innermost loop of each operation is long.
    """
    middles = torch.arange(-1, INTERVALS + 2, dtype=x.dtype, device=x.device)
    return (x + 1).mul_(INTERVALS / 2).unsqueeze(1) - middles[:, None]


def _tents(distances: Tensor) -> tuple[Tensor, Tensor]:
    """(2 - t)₊ and (1 - t)₊; the second takes the memory of `distances`."""
    return (2 - distances).relu_(), distances.neg_().add_(1).relu_()


class KANLinear(nn.Module):
    """y_j = sum_i (base_ji silu(x_i) + scale_ji spline_ji(x_i)), as in the program efficient-kan.

    Input (..., in_features), output (..., out_features). Each of the curves is a cubic spline of `BASES` coefficients
    on the grid of `spline_basis`. 10 parameters a pair of features, no bias. The grid stays as it is.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.base_weight = nn.Parameter(torch.empty(out_features, in_features))
        self.spline_weight = nn.Parameter(torch.empty(out_features, BASES, in_features))
        self.spline_scaler = nn.Parameter(torch.empty(out_features, in_features))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights: the splines are the shortest coefficients whose curves go through noise at the knots."""
        out_features, in_features = self.base_weight.shape
        for weight in (self.base_weight, self.spline_scaler):
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        knots = torch.linspace(-1, 1, INTERVALS + 1)
        noise = torch.rand(out_features, len(knots), in_features).sub_(0.5).mul_(NOISE / INTERVALS)
        self.spline_weight.copy_(torch.linalg.pinv(spline_basis(knots[:, None])[..., 0]) @ noise)

    def forward(self, x: Float[Tensor, "*batch c"]) -> Float[Tensor, "*batch d"]:
        """The sums of the curves, one of each output feature."""
        rows = x.reshape(-1, x.shape[-1])
        splines = self.spline_weight * self.spline_scaler[:, None]
        y = F.linear(F.silu(rows), self.base_weight) + F.linear(spline_basis(rows).flatten(1), splines.flatten(1))
        return y.view(*x.shape[:-1], -1)
