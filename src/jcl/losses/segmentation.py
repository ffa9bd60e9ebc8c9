"""The loss of fine-tuning."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from jcl.distributed.comm import gather

__all__ = ["cross_entropy"]


def cross_entropy(
    logits: Float[Tensor, "b k h w"], labels: Int[Tensor, "b h w"], *, ignore: int | None = None
) -> Float[Tensor, ""]:
    """Cross-entropy, the mean over pixels (paper, section 4.1), or over those of them that count.

    Args:
        logits: in any precision; the loss is computed in float32.
        labels: classes, 0 is the background.
        ignore: label of pixels that do not count. Where none counts the loss is 0, and so are its gradients. Several
            processes divide by the mean of their counts, so that the mean of their losses is that over all pixels.
    """
    # pixels as rows: the same sum, and unlike that over images it has a deterministic form on GPUs
    rows, targets = logits.float().permute(0, 2, 3, 1).flatten(0, 2), labels.flatten()
    if ignore is None:
        return F.cross_entropy(rows, targets)
    counted = gather((targets != ignore).sum(dtype=torch.float32)[None]).mean()
    return F.cross_entropy(rows, targets, ignore_index=ignore, reduction="sum") / counted.clamp(min=1)
