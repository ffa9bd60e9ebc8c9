"""The losses of fine-tuning, over pixels or voxels."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from jcl.distributed.comm import gather

__all__ = ["LOSSES", "cross_entropy", "dice_cross_entropy", "log_dice", "log_dice_cross_entropy", "soft_dice"]

TINY = 1e-30
"""The least Dice whose logarithm is taken: a float32, as its reciprocal is."""


def cross_entropy(
    logits: Float[Tensor, "b k *space"], labels: Int[Tensor, " b *space"], *, ignore: int | None = None
) -> Float[Tensor, ""]:
    """Cross-entropy, the mean over pixels (paper, section 4.1), or over those of them that count.

    Args:
        logits: in any precision; the loss is computed in float32.
        labels: classes, 0 is the background.
        ignore: label of pixels that do not count. Where none counts the loss is 0, and so are its gradients. Several
            processes divide by the mean of their counts, so that the mean of their losses is that over all pixels.
    """
    # pixels as rows: the same sum, and unlike that over images it has a deterministic form on GPUs
    rows, targets = logits.float().movedim(1, -1).flatten(0, -2), labels.flatten()
    if ignore is None:
        return F.cross_entropy(rows, targets)
    counted = gather((targets != ignore).sum(dtype=torch.float32)[None]).mean()
    return F.cross_entropy(rows, targets, ignore_index=ignore, reduction="sum") / counted.clamp(min=1)


def soft_dice(
    logits: Float[Tensor, "b k *space"],
    labels: Int[Tensor, " b *space"],
    *,
    ignore: int | None = None,
    smooth: float = 1e-5,
) -> Float[Tensor, ""]:
    """1 - Dice of the probabilities: of each structure over all pixels of the batch, the mean over structures.

    Over the batch and not over each slice, since a structure is missing in many slices (as nnU-Net does in 2-D;
    Milletari et al., V-Net, 2016, squares the probabilities in the denominator). The background is no structure.

    Args:
        logits: in any precision; the loss is computed in float32.
        labels: classes, 0 is the background.
        ignore: label of pixels that do not count.
        smooth: added to numerator and denominator, so that a structure in neither costs nothing.
    """
    both, either, _ = _sums(logits, labels, ignore)
    return 1 - ((2 * both + smooth) / (either + smooth)).mean()


def log_dice(
    logits: Float[Tensor, "b k *space"], labels: Int[Tensor, " b *space"], *, ignore: int | None = None
) -> Float[Tensor, ""]:
    """-log of the Dice that `soft_dice` is 1 minus, the mean over structures.

    Where a structure's probabilities are near 0, so are the gradients of 1 - Dice through the softmax: a structure of
    few pixels may never be learned. Those of the logarithm do not depend on how small the overlap is (Wong et al., 3D
    segmentation with exponential logarithmic loss, 2018; here with exponent 1). A structure that is not in the batch
    costs nothing.

    Args:
        logits: in any precision; the loss is computed in float32.
        labels: classes, 0 is the background.
        ignore: label of pixels that do not count.
    """
    both, either, true = _sums(logits, labels, ignore)
    dice = (2 * both / either.clamp(min=1)).clamp(min=TINY)
    return -torch.where(true > 0, dice, 1).log().mean()


def _sums(logits: Tensor, labels: Tensor, ignore: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over all pixels of the batch and all processes, of each structure, (k - 1,) each.

    Of the probabilities where it is, of the probabilities and its pixels, and of its pixels alone.
    """
    probabilities = logits.float().softmax(1)
    truth = torch.zeros_like(probabilities)
    if ignore is None:
        truth.scatter_(1, labels[:, None].long(), 1.0)
    else:
        counts = labels != ignore
        truth.scatter_(1, labels.where(counts, 0)[:, None].long(), counts[:, None].to(truth.dtype))
        probabilities = probabilities * counts[:, None]
    over = (0, *range(2, logits.ndim))
    sums = torch.stack([part[:, 1:].sum(over) for part in (probabilities * truth, probabilities + truth, truth)])
    both, either, true = gather(sums[None]).sum(0)
    return both, either, true


def dice_cross_entropy(
    logits: Float[Tensor, "b k *space"], labels: Int[Tensor, " b *space"], *, ignore: int | None = None
) -> Float[Tensor, ""]:
    """`soft_dice` + `cross_entropy`, each with weight 1 (Isensee et al., nnU-Net, 2021)."""
    return soft_dice(logits, labels, ignore=ignore) + cross_entropy(logits, labels, ignore=ignore)


def log_dice_cross_entropy(
    logits: Float[Tensor, "b k *space"], labels: Int[Tensor, " b *space"], *, ignore: int | None = None
) -> Float[Tensor, ""]:
    """`log_dice` + `cross_entropy`, each with weight 1."""
    return log_dice(logits, labels, ignore=ignore) + cross_entropy(logits, labels, ignore=ignore)


LOSSES = {
    "cross_entropy": cross_entropy,
    "dice_cross_entropy": dice_cross_entropy,
    "log_dice_cross_entropy": log_dice_cross_entropy,
}
"""By the names that the setting `loss` has."""
