"""Dense losses of table 9 against loops over single pixels."""

import pytest
import torch

from jcl.losses.dense import dense_byol, dense_mse

LOSSES = pytest.mark.parametrize("loss", [dense_mse, dense_byol])


def maps(seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(3, 4, 2, 5, generator=torch.Generator().manual_seed(seed)).to(dtype)


def loop(loss, first: torch.Tensor, second: torch.Tensor) -> float:
    values = []
    for a, b in zip(first.permute(0, 2, 3, 1).reshape(-1, 4), second.permute(0, 2, 3, 1).reshape(-1, 4), strict=True):
        a, b = a.double(), b.double()
        if loss is dense_mse:
            values.append(sum((x - y) ** 2 for x, y in zip(a.tolist(), b.tolist(), strict=True)) / 4)
        else:
            values.append(sum(((a / a.norm() - b / b.norm()) ** 2).tolist()))
    return sum(values) / len(values)


@LOSSES
def test_the_mean_over_pixels_of_a_loop(loss):
    assert loss(maps(0), maps(1)).item() == pytest.approx(loop(loss, maps(0), maps(1)), rel=1e-5)


@LOSSES
def test_gradient_of_both_branches(loss):
    pair = [maps(seed, torch.float64).requires_grad_() for seed in range(2)]
    assert torch.autograd.gradcheck(loss, pair)


@LOSSES
def test_half_precision_is_computed_in_float32(loss):
    first, second = maps(0, torch.bfloat16), maps(1, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        got = loss(first, second)
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(loop(loss, first, second), rel=1e-5)


def test_byol_of_a_zero_vector_has_no_gradient():
    zero = torch.zeros(1, 2, 1, 1, requires_grad=True)
    loss = dense_byol(zero, torch.ones(1, 2, 1, 1))
    loss.backward()
    assert loss.item() == 2
    assert not zero.grad.any()
