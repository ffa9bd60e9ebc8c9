"""Losses over voxels: those of slow loops, their gradients, and no other value than over the same pixels in a plane."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from jcl.losses.dense import dense_byol, dense_info_nce, dense_mse, equivariance
from jcl.losses.segmentation import cross_entropy, dice_cross_entropy, log_dice, soft_dice

SHAPE = (2, 3, 4)


def maps(seed: int, channels: int = 5) -> torch.Tensor:
    return torch.randn(4, channels, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def positives() -> torch.Tensor:
    near = torch.zeros(4, 4, dtype=torch.bool)
    near[0, 1] = near[1, 0] = near[1, 2] = near[2, 1] = True
    return near


def slow_info_nce(anchors: torch.Tensor, contrasts: torch.Tensor) -> torch.Tensor:
    """Equation 11 voxel by voxel; the last row has no positive and does not count."""
    found = []
    for place in itertools.product(*map(range, SHAPE)):
        a, b = anchors[(..., *place)], contrasts[(..., *place)]
        for i in range(3):
            logits = {j: F.cosine_similarity(a[i], b[j], dim=0) / 0.2 for j in range(4) if j != i}
            below = torch.stack(list(logits.values())).exp().sum().log()
            found.append(-torch.stack([logits[j] - below for j in range(4) if positives()[i, j]]).mean())
    return torch.stack(found).mean()


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_contrasts_at_each_voxel_and_their_gradients(same, channels_last):
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    first = maps(0).contiguous(memory_format=layout).requires_grad_()
    second = first if same else maps(1).contiguous(memory_format=layout).requires_grad_()
    ours = dense_info_nce(first, second, positives(), temperature=0.2)
    gradients = torch.autograd.grad(ours, [first] if same else [first, second])
    slow = slow_info_nce(first, second)
    expected = torch.autograd.grad(slow, [first] if same else [first, second])
    assert ours.item() == pytest.approx(slow.item(), rel=1e-9)
    for got, wanted in zip(gradients, expected, strict=True):
        assert torch.allclose(got, wanted, atol=1e-10)


@pytest.mark.parametrize("loss", [dense_mse, dense_byol])
def test_the_same_voxel_is_compared_as_the_same_pixel(loss):
    first, second = maps(0), maps(1)
    assert loss(first, second).item() == pytest.approx(loss(first.flatten(3), second.flatten(3)).item(), rel=1e-9)


def test_features_are_brought_to_the_smaller_grid_along_every_side():
    """Between two voxels lies their mean; with corners on corners, a side of three keeps its ends and its middle."""
    large = torch.randn(2, 3, 4, 6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    small = torch.zeros(2, 3, 2, 3, 3, dtype=torch.float64)
    means = large.unflatten(2, (2, 2)).unflatten(4, (3, 2)).mean((3, 5))
    assert equivariance(small, large).item() == pytest.approx(means.abs().mean().item(), rel=1e-9)
    odd = torch.randn(1, 1, 3, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    corners = odd[:, :, ::2, ::2, ::2]
    assert equivariance(corners, odd, align_corners=True).item() == pytest.approx(0, abs=1e-12)


def labelled(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 3, *SHAPE, generator=generator), torch.randint(0, 3, (4, *SHAPE), generator=generator)


@pytest.mark.parametrize("ignore", [None, 2])
@pytest.mark.parametrize("loss", [cross_entropy, soft_dice, log_dice, dice_cross_entropy])
def test_segmentation_losses_are_those_of_the_same_pixels(loss, ignore):
    logits, labels = labelled()
    own, flat = (each.clone().requires_grad_() for each in (logits, logits.flatten(3)))
    ours, theirs = loss(own, labels, ignore=ignore), loss(flat, labels.flatten(2), ignore=ignore)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    ours.backward()
    theirs.backward()
    assert own.grad is not None
    assert flat.grad is not None
    assert torch.allclose(own.grad.flatten(3), flat.grad, atol=1e-7)


def test_cross_entropy_of_a_loop_over_voxels():
    logits, labels = labelled(1)
    logs = logits.log_softmax(1)
    found = [-logs[b, labels[(b, *place)], *place] for b in range(4) for place in itertools.product(*map(range, SHAPE))]
    assert cross_entropy(logits, labels).item() == pytest.approx(torch.stack(found).mean().item(), rel=1e-5)
