"""Heads: shapes and parameter counts by hand."""

import torch

from jcl.heads import InstanceProjector, PixelProjector


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
