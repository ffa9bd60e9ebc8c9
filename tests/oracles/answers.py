"""lightly's answers (see make_lightly.py), and what whole methods are compared with them by."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from jcl.backbones import Backbone
from jcl.data.batches import SliceBatch

CONTENT = json.loads(Path(__file__).with_name("lightly.json").read_text())
LEAVES = ("first", "second", "small", "prototypes")
PRECISIONS = [(torch.float64, 1e-10), (torch.float32, 1e-5)]


class Features(Backbone):
    """The bottleneck is the input; there is nothing to train."""

    stride = 1

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.feature_channels = (channels,)

    def encode(self, x: Tensor) -> list[Tensor]:
        return [x]

    def submodule_names(self, blocks: int) -> tuple[str, ...]:
        return ()


def given(dtype: torch.dtype) -> dict[str, Tensor]:
    """What lightly was given; the leaves ask for gradients."""
    tensors = {name: torch.tensor(rows, dtype=dtype) for name, rows in CONTENT["given"].items()}
    return {name: rows.requires_grad_(name in LEAVES) for name, rows in tensors.items()}


def as_images(features: Tensor) -> Tensor:
    return features[:, :, None, None]


def linear(matrix: Tensor) -> nn.Module:
    """x @ matrix for pooled or unpooled features; it stays as it is."""
    layer = nn.Linear(*matrix.shape, bias=False, dtype=matrix.dtype).requires_grad_(False)
    layer.weight.copy_(matrix.T.detach())
    return nn.Sequential(nn.Flatten(), layer)


def slices(count: int = 6) -> SliceBatch:
    """A batch of that many slices of one volume; what its images are plays no part."""
    return SliceBatch(
        images=torch.zeros(count, 1, 1, 1),
        positions=torch.linspace(0.1, 1, count),
        volumes=torch.zeros(count, dtype=torch.long),
    )


def check(name: str, loss: Tensor, leaves: dict[str, Tensor], tolerance: float) -> None:
    """Loss and gradients are lightly's; leaves that get none there get none here."""
    answer = CONTENT["answers"][name]
    assert loss.item() == pytest.approx(answer["loss"], rel=tolerance, abs=tolerance)
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    for leaf, gradient in zip(leaves, gradients, strict=True):
        if leaf not in answer["gradients"]:
            assert gradient is None, leaf
            continue
        wanted = torch.tensor(answer["gradients"][leaf], dtype=torch.float64)
        torch.testing.assert_close(gradient.double(), wanted, rtol=tolerance, atol=tolerance, msg=leaf)


def hard_features() -> list:
    """Two views that a loss has to stay finite on, with finite gradients."""
    torch.manual_seed(0)
    rows = torch.randn(2, 8)
    half = rows * torch.tensor([[1.0], [0.0]])
    cases = {
        "two slices": (rows, torch.randn(2, 8)),
        "duplicates": (rows[:1].repeat(6, 1), rows[:1].repeat(6, 1)),
        "opposite": (rows, -rows),
        "zero vectors": (torch.zeros(4, 8), torch.zeros(4, 8)),
        "one zero vector": (half, rows),
        "large": (1e4 * rows, 1e4 * rows),
        "small": (1e-4 * rows, 1e-4 * rows.flip(0)),
    }
    return [pytest.param(first, second, id=name) for name, (first, second) in cases.items()]


def check_finite(loss_of, first: Tensor, second: Tensor) -> None:
    """Finite loss and gradients, in float32 and under autocast to bfloat16."""
    for autocast in (False, True):
        leaves = [first.clone().requires_grad_(), second.clone().requires_grad_()]
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = loss_of(*leaves)
        assert torch.isfinite(loss)
        for gradient in torch.autograd.grad(loss, leaves, allow_unused=True):
            assert gradient is None or torch.isfinite(gradient).all()
            assert gradient is None or gradient.abs().max() < 1e8, "a division by nearly nothing"
