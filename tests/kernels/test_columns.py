"""Convolutions as one product of matrices are the direct ones."""

import pytest
import torch
from torch.nn import functional as F

from jcl.kernels.columns import convolve_columns


@pytest.mark.parametrize("shape", [(2, 3, 5, 7, 4), (1, 1, 2, 1, 1), (3, 4, 4, 2, 2)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_values_and_gradients(shape, layout):
    b, i, o, h, w = shape
    torch.manual_seed(0)
    x = torch.randn(b, i, h, w, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    weight = torch.randn(o, i, 3, 3, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    gradient = torch.randn(b, o, h, w, dtype=torch.float64)
    y, wanted = convolve_columns(x, weight), F.conv2d(x, weight, padding=1)
    assert torch.allclose(y, wanted)
    found = torch.autograd.grad(y, (x, weight), gradient)
    assert all(map(torch.allclose, found, torch.autograd.grad(wanted, (x, weight), gradient)))


def test_only_the_gradients_that_are_asked_for():
    x, weight = torch.randn(1, 2, 3, 3), torch.randn(2, 2, 3, 3, requires_grad=True)
    (found,) = torch.autograd.grad(convolve_columns(x, weight).sum(), weight)
    assert torch.allclose(found, torch.autograd.grad(F.conv2d(x, weight, padding=1).sum(), weight)[0], atol=1e-5)
