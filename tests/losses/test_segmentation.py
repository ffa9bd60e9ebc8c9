"""The loss of fine-tuning: over the pixels that count, in one process and in several."""

import pytest
import torch
from torch.nn import functional as F

from jcl.losses.segmentation import cross_entropy
from support.groups import in_two_processes

IGNORE = 255


def batch(seed: int = 0, count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 4, 6, 5, generator=generator)
    return logits.requires_grad_(), torch.randint(0, 4, (count, 6, 5), generator=generator)


def test_without_ignored_pixels_it_is_the_mean_over_all() -> None:
    logits, labels = batch()
    assert torch.equal(
        cross_entropy(logits, labels), F.cross_entropy(logits.permute(0, 2, 3, 1).flatten(0, 2), labels.flatten())
    )
    logits = logits.detach()
    assert float(cross_entropy(logits, labels, ignore=IGNORE)) == pytest.approx(float(cross_entropy(logits, labels)))


def test_ignored_pixels_change_neither_loss_nor_gradient() -> None:
    """nnU-Net's loss is masked likewise: https://github.com/MIC-DKFZ/nnUNet/issues/570."""
    logits, labels = batch()
    labels[0, 2:, :] = IGNORE
    labels[1] = IGNORE
    kept = labels != IGNORE
    wanted = F.cross_entropy(logits.permute(0, 2, 3, 1)[kept], labels[kept])
    loss = cross_entropy(logits, labels, ignore=IGNORE)
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-6)
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad.permute(0, 2, 3, 1)[~kept].any()
    assert logits.grad.permute(0, 2, 3, 1)[kept].any(dim=1).all()


def test_where_no_pixel_counts_the_loss_is_zero() -> None:
    """torch's own mean is NaN: https://github.com/pytorch/pytorch/issues/75181."""
    logits, labels = batch()
    loss = cross_entropy(logits, torch.full_like(labels, IGNORE), ignore=IGNORE)
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def in_half(rank: int) -> None:
    logits, labels = batch(count=4)
    labels[0] = labels[1, 2:] = IGNORE
    own = slice(2 * rank, 2 * rank + 2)
    loss = cross_entropy(logits[own], labels[own], ignore=IGNORE)
    (gradient,) = torch.autograd.grad(loss, logits)
    (wanted,) = torch.autograd.grad(cross_entropy_of_one(logits, labels), logits)
    assert torch.allclose(gradient[own] / 2, wanted[own], atol=1e-7)


def cross_entropy_of_one(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    kept = labels != IGNORE
    return F.cross_entropy(logits.permute(0, 2, 3, 1)[kept], labels[kept])


@pytest.mark.slow
def test_two_processes_with_unequal_counts_have_the_gradient_of_one() -> None:
    in_two_processes(in_half)
