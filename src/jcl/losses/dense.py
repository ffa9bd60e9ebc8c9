"""Dense losses that compare the same pixel of two branches, and no other: the alternatives of JCL's table 9.

Both are computed in float32 (float64 stays float64) whatever the type of the input, and both branches get a gradient:
the paper says nothing of a stop-gradient here, and its other losses have none. They are means over the slices at
hand, so that nothing need be gathered from other processes. Nothing pushes projections apart, so they can collapse.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from jcl.losses.similarity import EPSILON, at_least_float32, inverse_norms

__all__ = ["dense_byol", "dense_info_nce", "dense_mse", "equivariance"]


def dense_mse(dominant: Float[Tensor, "m d *space"], auxiliary: Float[Tensor, "m d *space"]) -> Float[Tensor, ""]:
    """Squared difference of the projections, the mean over slices, channels and pixels (JCL paper, appendix B).

    Examples:
        >>> dense_mse(torch.full((1, 2, 1, 1), 3.0), torch.ones(1, 2, 1, 1)).item()
        4.0
    """
    with torch.autocast(dominant.device.type, enabled=False):
        return F.mse_loss(at_least_float32(dominant), at_least_float32(auxiliary))


def dense_byol(dominant: Float[Tensor, "m d *space"], auxiliary: Float[Tensor, "m d *space"]) -> Float[Tensor, ""]:
    """Squared distance of the normalised projections, 2 - 2 cos, the mean over slices and pixels.

    Equation 2 of BYOL (arXiv:2006.07733) at every pixel. A zero vector has no direction: its cosine to anything is 0,
    and so is its gradient.

    Examples:
        >>> dense_byol(torch.tensor([3.0, 0.0]).view(1, 2, 1, 1), torch.tensor([0.0, 5.0]).view(1, 2, 1, 1)).item()
        2.0
    """
    with torch.autocast(dominant.device.type, enabled=False):
        return 2 - 2 * (_directions(dominant) * _directions(auxiliary)).sum(1).mean()


def _directions(x: Float[Tensor, "m d *space"]) -> Float[Tensor, "m d *space"]:
    x = at_least_float32(x)
    norms = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x * torch.where(norms > EPSILON, 1 / norms.clamp(min=EPSILON), 0)


def dense_info_nce(
    anchors: Float[Tensor, "m d *space"],
    contrasts: Float[Tensor, "m d *space"],
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


def equivariance(
    dominant: Float[Tensor, "b c *space"], auxiliary: Float[Tensor, "b c *larger"], *, align_corners: bool = False
) -> Float[Tensor, ""]:
    """Equivariant regularisation L_ER = mean | Y - down(Y~) | (JCL paper, equation 12).

    `auxiliary` is brought to the size of `dominant` by bilinear interpolation (of voxels trilinear), in the authors'
    program with `align_corners` (corner pixels on corner pixels); both get a gradient.
    """
    dominant, auxiliary = at_least_float32(dominant), at_least_float32(auxiliary)
    mode = "bilinear" if dominant.ndim == 4 else "trilinear"
    down = F.interpolate(auxiliary, size=dominant.shape[2:], mode=mode, align_corners=align_corners)
    return (dominant - down).abs().mean()


def _pixels_first(x: Float[Tensor, "m d *space"]) -> Float[Tensor, "s m d"]:
    """A view where the features are channels-last; else one copy, which all that follows is faster for."""
    x = at_least_float32(x)
    if x.ndim != 4:  # voxels in a row: a view, too, where channels are last
        x = x.flatten(2)[..., None]
    rows = x.permute(2, 3, 0, 1).flatten(0, 1)
    return rows if rows.stride(2) == 1 else _PixelsFirst.apply(x)  # pyright: ignore[reportReturnType]


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
        inverse = inverse_norms(products.diagonal(dim1=1, dim2=2))
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
            inverse_norms(torch.linalg.vector_norm(x, dim=2).square_()) for x in (rows, columns)
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
