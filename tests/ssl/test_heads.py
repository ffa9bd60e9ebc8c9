"""Heads: shapes and parameter counts by hand."""

import torch

from jcl.ssl.heads import MLP, InstanceProjector, MLPProjector, PixelProjector


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_instance_projector():
    head = InstanceProjector(12, 7)
    assert head(torch.rand(3, 12, 4, 5)).shape == (3, 7)
    assert count(head) == 12 * 12 + 12 + 12 * 7 + 7


def test_pixel_projector():
    head = PixelProjector(12, 7)
    assert head(torch.rand(3, 12, 4, 5)).shape == (3, 7, 4, 5)
    assert count(head) == 9 * 12 * 7 + 14 + 9 * 7 * 7 + 14


def test_mlp():
    head = MLP(12, 9, 7)
    assert head(torch.rand(3, 12)).shape == (3, 7)
    assert count(head) == 12 * 9 + 2 * 9 + 9 * 7 + 7
    assert [type(layer).__name__ for layer in head] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]


def test_mlp_projector_with_normalised_output():
    head = MLPProjector(12, 9, 8, 7, output_norm=True)
    z = head(torch.rand(16, 12, 4, 5))
    assert z.shape == (16, 7)
    assert count(head) == 12 * 9 + 2 * 9 + 9 * 8 + 2 * 8 + 8 * 7
    torch.testing.assert_close(z.mean(0), torch.zeros(7), rtol=0, atol=1e-5)
    assert (z < 0).any(), "no ReLU on the output"
