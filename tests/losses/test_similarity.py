"""Cosine similarity: values, zero vectors, and low precision."""

import pytest
import torch
from torch.nn import functional as F

from jcl.losses.similarity import cosine, cosines, unit


def test_agrees_with_pytorch():
    x, y = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(unit(x), F.normalize(x, dim=-1))
    torch.testing.assert_close(cosine(x, y), F.cosine_similarity(x, y, dim=-1))
    wanted = F.cosine_similarity(x[:, :, None, :], y[:, None, :, :], dim=-1)
    torch.testing.assert_close(cosines(x, y), wanted)


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e-9, 1e15])
def test_lengths_of_any_size_are_finite(scale):
    x = (torch.ones(2, 4) * scale).requires_grad_()
    cosines(x, torch.eye(4)).sum().backward()
    assert torch.isfinite(x.grad).all()
    if scale < 1e-12:
        assert not x.grad.any()
        assert not unit(x).any()


@pytest.mark.parametrize("length", [1e-9, 1e-3, 1e3])
def test_short_vectors_have_a_direction_too(length):
    x = torch.randn(5, 7, dtype=torch.float64)
    torch.testing.assert_close(unit(length * x), F.normalize(x, dim=-1))


def test_float32_under_autocast():
    x = torch.randn(8, 64)
    with torch.autocast("cpu", torch.bfloat16):
        got = cosines(x.bfloat16(), x.bfloat16())
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.diagonal(), torch.ones(8), rtol=1e-6, atol=1e-6)
