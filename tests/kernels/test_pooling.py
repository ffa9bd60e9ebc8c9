"""Pooling is PyTorch's to the bit, ties and what is no number included."""

import gc
import weakref

import pytest
import torch
from torch.nn import functional as F

from jcl.kernels.pooling import pool
from support.onkernels import lanes

LANES = lanes()


@pytest.mark.parametrize("size", [(2, 2), (6, 8), (7, 5), (33, 20)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("kept", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_the_same_to_the_bit(size, layout, kept):
    torch.manual_seed(0)
    x = torch.randint(-2, 3, (3, 2 * LANES, *size)).to(kept).to(memory_format=layout).requires_grad_()  # many ties
    y, wanted = pool(x), F.max_pool2d(x, 2)
    assert y.dtype == kept
    assert torch.equal(y, wanted)
    gradient = torch.randn(wanted.shape).to(kept)
    assert torch.equal(torch.autograd.grad(y, x, gradient)[0], torch.autograd.grad(wanted, x, gradient)[0])


@pytest.mark.parametrize("kept", [torch.float32, torch.bfloat16])
def test_what_is_no_number_is_the_maximum(kept):
    x = torch.zeros(1, LANES, 4, 4, dtype=kept)
    x[0, 0, 0, 1] = x[0, 1, 3, 2] = x[0, 2, 0, 0] = float("nan")
    x.requires_grad_()
    y, wanted = pool(x), F.max_pool2d(x, 2)
    assert torch.equal(y.isnan(), wanted.isnan())
    gradient = torch.ones_like(wanted)
    assert torch.equal(torch.autograd.grad(y, x, gradient)[0], torch.autograd.grad(wanted, x, gradient)[0])


def test_the_input_is_not_kept():
    x = torch.randn(1, LANES, 8, 8, requires_grad=True)
    inner = x * 2
    kept = weakref.ref(inner)
    y = pool(inner)
    del inner
    gc.collect()
    assert kept() is None
    y.sum().backward()
    assert float(x.grad.sum()) == 2 * y.numel()
