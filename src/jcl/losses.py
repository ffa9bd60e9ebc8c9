"""Losses that two methods or more share, and JCL's dense loss with its own gradient.

Similarities, softmax and logarithms are computed in float32 (float64 stays float64) whatever the
type of the input, so that they are safe under autocast. A zero vector has no direction: its cosine
similarity to anything is 0, and so is its gradient.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from jcl.similarity import cosine, cosines

EPSILON = 1e-12


def position_mask(positions: Float[Tensor, " m"], threshold: float) -> Bool[Tensor, "m m"]:
    """Which pairs of slices are positive: |pos_i - pos_j| < threshold and i != j (PCL, arXiv:2106.09157).

    Args:
        positions: relative position of each row in its volume, in (0, 1].
        threshold: 0.1 for CHD in the JCL paper; at 0 only equal positions would be near, and none is.

    Example:
        >>> position_mask(torch.tensor([0.10, 0.15, 0.90]), 0.1).int().tolist()
        [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    """
    near = (positions[:, None] - positions[None, :]).abs() < threshold
    return near.fill_diagonal_(False)


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
        anchors: z, one row a view.
        contrasts: z~; the same tensor as `anchors` contrasts all rows with all others.
        positives: P, which columns are positives of which row.
        temperature: t (paper: 0.1).
    """
    rows = anchors[:, :, None, None]
    columns = rows if contrasts is anchors else contrasts[:, :, None, None]
    return dense_info_nce(rows, columns, positives, temperature=temperature)


def dense_info_nce(
    anchors: Float[Tensor, "m d h w"],
    contrasts: Float[Tensor, "m d h w"],
    positives: Bool[Tensor, "m m"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """Dense contrastive loss L_d (JCL paper, equation 11): `info_nce` at each pixel, and the mean over pixels.

    Pixel s of row i is contrasted with pixel s of the other rows. It is one batched product of shape
    (h*w, m, m), and one or two more for the gradient; fastest where the features are channels-last.
    Arguments as in `info_nce`; when `contrasts` is `anchors` the gradient takes one product instead of two.
    """
    same = contrasts is anchors
    rows = _pixels_first(anchors)
    columns = rows if same else _pixels_first(contrasts)
    weights = positives.to(rows.dtype).fill_diagonal_(0)
    counts = weights.sum(1)
    counted = counts > 0
    total = counted.sum().clamp(min=1)
    weights = weights / counts.clamp(min=1)[:, None] / total
    with torch.autocast(rows.device.type, enabled=False):
        if same:
            return _JointContrast.apply(rows, weights, temperature)  # pyright: ignore[reportReturnType]
        return _CrossContrast.apply(rows, columns, weights, temperature)  # pyright: ignore[reportReturnType]


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
        queries: q, one row a slice; only they get a gradient.
        keys: k, the positive of each query.
        queue: u, the keys of earlier batches.
        left_out: which rows of the queue are no negatives of which query.
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


def equivariance(dominant: Float[Tensor, "b c h w"], auxiliary: Float[Tensor, "b c H W"]) -> Float[Tensor, ""]:
    """Equivariant regularisation L_ER = mean | Y - down(Y~) | (JCL paper, equation 12).

    `auxiliary` is brought to the size of `dominant` by bilinear interpolation; both get a gradient.
    """
    dominant, auxiliary = _at_least_float32(dominant), _at_least_float32(auxiliary)
    down = F.interpolate(auxiliary, size=dominant.shape[-2:], mode="bilinear", align_corners=False)
    return (dominant - down).abs().mean()


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _pixels_first(x: Float[Tensor, "m d h w"]) -> Float[Tensor, "s m d"]:
    """A view where the features are channels-last; else one copy, which all that follows is faster for."""
    x = _at_least_float32(x)
    rows = x.permute(2, 3, 0, 1).flatten(0, 1)
    return rows if rows.stride(2) == 1 else _PixelsFirst.apply(x)  # pyright: ignore[reportReturnType]


def _inverse_norms(squares: Float[Tensor, "s m"]) -> Float[Tensor, "s m"]:
    """Of rows whose products with themselves these are; 0 for a zero vector."""
    directed = squares > EPSILON**2
    return torch.where(directed, torch.where(directed, squares, 1).rsqrt(), 0)


def _contrast(
    cosines: Float[Tensor, "s m m"], weights: Float[Tensor, "m m"], temperature: float
) -> tuple[Float[Tensor, ""], Float[Tensor, "s m m"]]:
    """Loss, and its gradient with respect to `cosines` (whose memory it may use).

    The gradient is (softmax - weights) / temperature for anchors that count: both come from the same
    exponentials, so it costs next to nothing to have it ready before it is asked for.
    """
    pixels = cosines.shape[0]
    share = weights.sum(1)  # 1 / (number of counted anchors), or 0
    logits = cosines / temperature
    attraction = (logits.flatten(1) @ weights.flatten()).sum()
    logits.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    peak = logits.amax(dim=2, keepdim=True)
    logits.sub_(peak).exp_()
    sums = logits.sum(dim=2, keepdim=True)
    log_sums = sums.log() + peak
    loss = ((log_sums.squeeze(2) @ share).sum() - attraction) / pixels
    scale = 1 / (temperature * pixels)
    gradient = logits.mul_(share[:, None] * scale / sums).sub_(weights * scale)
    return loss, gradient


class _PixelsFirst(torch.autograd.Function):
    """Transpose of pixels and channels, there and back: as a matrix several times as fast as with four sides."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.shape = x.shape
        return x.reshape(-1, x.shape[2] * x.shape[3]).T.contiguous().view(-1, *x.shape[:2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad_output.flatten(1).T.contiguous().view(ctx.shape)


class _JointContrast(torch.autograd.Function):
    """All rows against all others: one product for the gradient.

    With G the gradient of the cosines C and r the inverse norms, the gradient of row x_i is
    r_i (sum_j (G_ij + G_ji) r_j x_j - (sum_j (G_ij + G_ji) C_ij) r_i x_i).
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weights: Tensor, temperature: float) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        products = torch.bmm(rows, rows.mT)
        inverse = _inverse_norms(products.diagonal(dim1=1, dim2=2))
        scale = inverse[:, :, None] * inverse[:, None, :]
        cosines = products.mul_(scale)
        loss, gradient = _contrast(cosines, weights, temperature)
        both = gradient + gradient.mT
        along = (both * cosines).sum(2)
        matrix = both.mul_(scale)
        matrix.diagonal(dim1=1, dim2=2).sub_(along * inverse.square())
        ctx.save_for_backward(rows, matrix)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        rows, matrix = ctx.saved_tensors
        return torch.bmm(matrix * grad_output, rows), None, None


class _CrossContrast(torch.autograd.Function):
    """Rows against columns of another tensor, the diagonal left out."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, weights: Tensor, temperature: float) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        row_inverse, column_inverse = (
            _inverse_norms(torch.linalg.vector_norm(x, dim=2).square_()) for x in (rows, columns)
        )
        scale = row_inverse[:, :, None] * column_inverse[:, None, :]
        cosines = torch.bmm(rows, columns.mT).mul_(scale)
        loss, gradient = _contrast(cosines, weights, temperature)
        along = gradient * cosines
        row_along = along.sum(2) * row_inverse.square()
        column_along = along.sum(1) * column_inverse.square()
        ctx.save_for_backward(rows, columns, gradient.mul_(scale), row_along, column_along)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        rows, columns, matrix, row_along, column_along = ctx.saved_tensors
        matrix = matrix * grad_output
        rows_gradient = _scaled(rows, -grad_output * row_along).baddbmm_(matrix, columns)
        columns_gradient = _scaled(columns, -grad_output * column_along).baddbmm_(matrix.mT, rows)
        return rows_gradient, columns_gradient, None, None


def _scaled(rows: Float[Tensor, "s m d"], factors: Float[Tensor, "s m"]) -> Float[Tensor, "s m d"]:
    """One pixel after the other, whatever the layout of the rows: only to such a tensor are products added at once."""
    return torch.mul(rows, factors[:, :, None], out=rows.new_empty(rows.shape))
