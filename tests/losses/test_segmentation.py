"""The loss of fine-tuning: over the pixels that count, in one process and in several."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from jcl.losses.segmentation import (
    cross_entropy,
    dice_cross_entropy,
    log_dice,
    log_dice_cross_entropy,
    soft_dice,
)
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


def slow_sums(logits: torch.Tensor, labels: torch.Tensor) -> list[tuple[float, float, int]]:
    """Of each structure: overlap, probabilities and pixels together, and pixels; pixel by pixel, in float64."""
    chances = np.exp(logits.detach().double().numpy())
    chances /= chances.sum(1, keepdims=True)
    sums = []
    for structure in range(1, chances.shape[1]):
        both, either, pixels = 0.0, 0.0, 0
        for image, row, column in np.ndindex(*labels.shape):
            if (label := int(labels[image, row, column])) != IGNORE:
                chance = chances[image, structure, row, column]
                both += chance * (label == structure)
                either += chance + (label == structure)
                pixels += label == structure
        sums.append((both, either, pixels))
    return sums


def slow_soft_dice(logits: torch.Tensor, labels: torch.Tensor, smooth: float = 1e-5) -> float:
    return float(
        np.mean([1 - (2 * both + smooth) / (either + smooth) for both, either, _ in slow_sums(logits, labels)])
    )


def slow_log_dice(logits: torch.Tensor, labels: torch.Tensor) -> float:
    terms = [-np.log(2 * both / either) if pixels else 0.0 for both, either, pixels in slow_sums(logits, labels)]
    return float(np.mean(terms))


@pytest.mark.parametrize("ignored", [False, True])
def test_soft_dice_is_that_of_a_loop_over_pixels(ignored: bool) -> None:
    logits, labels = batch()
    if ignored:
        labels[0, 2:] = labels[2] = IGNORE
    loss = soft_dice(logits, labels, ignore=IGNORE if ignored else None)
    assert float(loss.detach()) == pytest.approx(slow_soft_dice(logits, labels), rel=1e-5)


def test_soft_dice_of_sure_and_right_logits_is_zero_and_of_wrong_ones_is_one() -> None:
    _, labels = batch()
    right = 50.0 * F.one_hot(labels, 4).permute(0, 3, 1, 2).float()
    assert float(soft_dice(right, labels)) == pytest.approx(0, abs=1e-5)
    wrong = 50.0 * F.one_hot((labels + 1) % 4, 4).permute(0, 3, 1, 2).float()
    assert float(soft_dice(wrong, labels)) == pytest.approx(1, abs=1e-4)


def test_soft_dice_of_bfloat16_logits_is_computed_in_float32() -> None:
    logits, labels = batch()
    low = logits.detach().bfloat16()
    assert torch.equal(soft_dice(low, labels), soft_dice(low.float(), labels))


def test_ignored_pixels_change_neither_dice_nor_its_gradient() -> None:
    logits, labels = batch()
    labels[0, 2:] = labels[1] = IGNORE
    loss = soft_dice(logits, labels, ignore=IGNORE)
    loss.backward()
    kept = labels != IGNORE
    assert logits.grad is not None
    assert not logits.grad.permute(0, 2, 3, 1)[~kept].any()
    other = torch.where(kept[:, None], logits.detach(), -logits.detach())
    assert torch.equal(soft_dice(other, labels, ignore=IGNORE), loss.detach())
    nothing = torch.full_like(labels, IGNORE)
    assert float(dice_cross_entropy(logits, nothing, ignore=IGNORE).detach()) == pytest.approx(0, abs=1e-6)


def test_dice_cross_entropy_is_the_sum() -> None:
    logits, labels = batch()
    wanted = float(soft_dice(logits, labels).detach()) + float(cross_entropy(logits, labels).detach())
    assert float(dice_cross_entropy(logits, labels).detach()) == pytest.approx(wanted, rel=1e-6)


def dice_in_half(rank: int) -> None:
    logits, labels = batch(count=4)
    labels[0] = labels[1, 2:] = IGNORE
    own = slice(2 * rank, 2 * rank + 2)
    loss = soft_dice(logits[own], labels[own], ignore=IGNORE)
    assert float(loss.detach()) == pytest.approx(slow_soft_dice(logits, labels), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, logits)
    kept = labels != IGNORE
    truth = F.one_hot(labels.where(kept, 0), 4).permute(0, 3, 1, 2) * kept[:, None]
    chances = logits.softmax(1) * kept[:, None]
    both, either = ((part[:, 1:]).sum((0, 2, 3)) for part in (chances * truth, chances + truth))
    (wanted,) = torch.autograd.grad((1 - (2 * both + 1e-5) / (either + 1e-5)).mean(), logits)
    assert torch.allclose(gradient[own] / 2, wanted[own], atol=1e-7)


@pytest.mark.slow
def test_dice_of_two_processes_is_that_of_all_their_pixels() -> None:
    in_two_processes(dice_in_half)


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("sure", [-4.0, 0.0, 4.0])
def test_log_dice_is_that_of_a_loop_over_pixels(ignored: bool, sure: float) -> None:
    logits, labels = batch()
    logits = logits + sure * F.one_hot(labels, 4).permute(0, 3, 1, 2)
    if ignored:
        labels[0, 2:] = labels[2] = IGNORE
    loss = log_dice(logits, labels, ignore=IGNORE if ignored else None)
    assert float(loss.detach()) == pytest.approx(slow_log_dice(logits, labels), rel=1e-5)


def test_a_structure_that_is_not_in_the_batch_costs_log_dice_nothing() -> None:
    logits, labels = batch()
    labels[labels == 2] = 0
    loss = log_dice(logits, labels)
    assert float(loss.detach()) == pytest.approx(slow_log_dice(logits, labels), rel=1e-5)
    absent = logits.detach().clone()
    absent[:, 2] -= 50
    assert float(log_dice(absent, labels)) < float(loss.detach())  # the other structures have its probabilities
    nothing = log_dice(logits, torch.zeros_like(labels))
    (gradient,) = torch.autograd.grad(nothing, logits)
    assert float(nothing.detach()) == 0
    assert not gradient.any()


def test_a_structure_whose_probability_is_almost_zero_still_has_a_gradient_through_log_dice() -> None:
    """As runs were seen to end: a small structure at Dice 0, and 1 - Dice without a way back."""
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    labels[0, 2, 2:4] = 1
    logits = torch.stack([torch.zeros(8, 8), torch.full((8, 8), -30.0)])[None].requires_grad_()
    (starved,) = torch.autograd.grad(soft_dice(logits, labels), logits)
    (fed,) = torch.autograd.grad(log_dice(logits, labels), logits)
    assert starved.abs().max() < 1e-8
    assert fed[0, 1, 2, 2:4].sum() == pytest.approx(-1, abs=1e-5)


def test_the_gradient_of_log_dice_is_finite_where_a_probability_is_no_float32() -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    labels[0, 1, 1] = 1
    logits = torch.stack([torch.zeros(4, 4), torch.full((4, 4), -200.0)])[None].requires_grad_()
    loss = log_dice_cross_entropy(logits, labels)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    assert gradient[0, 1, 1, 1] < 0  # cross-entropy's


def test_log_dice_cross_entropy_is_the_sum() -> None:
    logits, labels = batch()
    wanted = float(log_dice(logits, labels).detach()) + float(cross_entropy(logits, labels).detach())
    assert float(log_dice_cross_entropy(logits, labels).detach()) == pytest.approx(wanted, rel=1e-6)


def log_dice_in_half(rank: int) -> None:
    logits, labels = batch(count=4)
    labels[0] = labels[1, 2:] = IGNORE
    labels[2:][labels[2:] == 3] = 0  # a structure that only the first process has
    own = slice(2 * rank, 2 * rank + 2)
    loss = log_dice(logits[own], labels[own], ignore=IGNORE)
    assert float(loss.detach()) == pytest.approx(slow_log_dice(logits, labels), rel=1e-5)


@pytest.mark.slow
def test_log_dice_of_two_processes_is_that_of_all_their_pixels() -> None:
    in_two_processes(log_dice_in_half)
