"""Losses that two methods or more share, and JCL's dense loss with its own gradient.

Similarities, softmax and logarithms are computed in float32 (float64 stays float64) whatever the
type of the input, so that they are safe under autocast. A zero vector has no direction: its cosine
similarity to anything is 0, and so is its gradient.
"""

from fractions import Fraction

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from jcl.losses.dense import dense_info_nce
from jcl.losses.similarity import cosine, cosines

FINEST = 10**6
"""Largest denominator that a threshold is taken to have: with it, integers hold volumes of a million slices."""


def position_mask(
    positions: Float[Tensor, " m"], threshold: float, depths: Int[Tensor, " m"] | None = None
) -> Bool[Tensor, "m m"]:
    """Which pairs of slices are positive: |pos_i - pos_j| < threshold and i != j (PCL, arXiv:2106.09157).

    With `depths` it is decided by integers, the threshold as it is written (0.1 is one tenth): slices exactly that far
    apart are no positives, as the paper has it. Without, rounding decides of these: in float32 8 of the 18 pairs of
    neighbours in a volume of 10 slices are then nearer than 0.1, in the authors' program, in float64, 12.

    Args:
        positions: relative position of each row in its volume, i / D in (0, 1].
        threshold: 0.1 for CHD in the JCL paper; at 0 only equal positions would be near, and none is.
        depths: D, the slices of each row's volume.

    Examples:
        >>> position_mask(torch.tensor([0.10, 0.15, 0.90]), 0.1).int().tolist()
        [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
        >>> position_mask(torch.tensor([0.8, 0.9]), 0.1).any(), position_mask(
        ...     torch.tensor([0.8, 0.9]), 0.1, torch.tensor([10, 10])
        ... ).any()
        (tensor(True), tensor(False))
    """
    if depths is None:
        near = (positions[:, None] - positions[None, :]).abs() < threshold
    else:  # |i / D - j / E| < p / q is |i E - j D| q < p D E
        limit = Fraction(repr(threshold)).limit_denominator(FINEST)
        products = (positions * depths).round().long()[:, None] * depths[None, :]
        near = (products - products.T).abs() * limit.denominator < depths[:, None] * depths[None, :] * limit.numerator
    return near.fill_diagonal_(False)


def place_mask(centres: Int[Tensor, "m n"], extents: Int[Tensor, "m n"], threshold: float) -> Bool[Tensor, "m m"]:
    """Which pairs of blocks are positive: nearer than the threshold along each axis (see `position_mask`), and i != j.

    Args:
        centres: place of each row along each axis of its volume.
        extents: how long the volume is along it; the relative position is their quotient.
        threshold: of each difference.

    Example:
        >>> place_mask(torch.tensor([[4, 4], [4, 5], [4, 9]]), torch.full((3, 2), 10), 0.2).int().tolist()
        [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    """
    axes = zip((centres / extents).unbind(1), extents.unbind(1), strict=True)
    near = [position_mask(positions, threshold, depths) for positions, depths in axes]
    return torch.stack(near).all(0)


def info_nce(
    anchors: Float[Tensor, "m d"],
    contrasts: Float[Tensor, "m d"],
    positives: Bool[Tensor, "m m"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """Global contrastive loss L_g (JCL paper, equation 10), the mean over anchors.

    L = mean_i - 1/|P_i| sum_{j in P_i} log( exp(z_i.z~_j / t) / sum_{k != i} exp(z_i.z~_k / t) )

    with the cosine similarity. The paper sums over anchors; the mean keeps the weights of the losses
    independent of the batch size. The authors' program multiplies by t / 0.07 besides, which we do not:
    scale the weight to get it. An anchor without a positive does not count; with none at all the loss is 0.
    The diagonal is left out, as a positive and as a negative.

    Args:
        anchors: z, one row per view.
        contrasts: z~; the same tensor as `anchors` contrasts all rows with all others.
        positives: P, which columns are positives of which row.
        temperature: t (paper: 0.1).
    """
    rows = anchors[:, :, None, None]
    columns = rows if contrasts is anchors else contrasts[:, :, None, None]
    return dense_info_nce(rows, columns, positives, temperature=temperature)


def queue_info_nce(
    queries: Float[Tensor, "n d"],
    keys: Float[Tensor, "n d"],
    queue: Float[Tensor, "k d"],
    left_out: Bool[Tensor, "n k"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """Contrastive loss against a queue of keys (MoCo, arXiv:1911.05722, equation 1), the mean over queries.

    L = mean_i - log( exp(q_i.k_i / t) / (exp(q_i.k_i / t) + sum_j exp(q_i.u_j / t)) )

    with the cosine similarity; j runs over the rows u of the queue that are not left out of row i.

    Args:
        queries: q, one row per slice; only they get a gradient.
        keys: k, the positive of each query.
        queue: u, the keys of earlier batches.
        left_out: which rows of the queue are not negatives of which query.
        temperature: t (paper: 0.07; MoCo v2: 0.2).
    """
    positive = cosine(queries, keys.detach())[:, None]
    negative = cosines(queries, queue.detach()).masked_fill(left_out, -torch.inf)
    logits = torch.cat([positive, negative], dim=1) / temperature
    return (logits.logsumexp(1) - logits[:, 0]).mean()


def negative_cosine(predictions: Float[Tensor, "n d"], targets: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """D(p, z) = mean_i - cosine(p_i, stopgrad(z_i)) (SimSiam, arXiv:2011.10566, equations 1 and 3).

    The targets get no gradient. BYOL's squared distance of unit vectors is 2 + 2 D (arXiv:2006.07733, equation 2).
    """
    return -cosine(predictions, targets.detach()).mean()
