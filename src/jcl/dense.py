"""Dense losses that compare the same pixel of two branches, and no other: the alternatives of JCL's table 9.

Both are computed in float32 (float64 stays float64) whatever the type of the input, and both branches get a gradient:
the paper says nothing of a stop-gradient here, and its other losses have none. They are means over the slices at
hand, so that nothing need be gathered from other processes. Nothing pushes projections apart, so they can collapse.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["dense_byol", "dense_mse"]

EPSILON = 1e-12


def dense_mse(dominant: Float[Tensor, "m d h w"], auxiliary: Float[Tensor, "m d h w"]) -> Float[Tensor, ""]:
    """Squared difference of the projections, the mean over slices, channels and pixels (JCL paper, appendix B).

    Example:
        >>> dense_mse(torch.full((1, 2, 1, 1), 3.0), torch.ones(1, 2, 1, 1)).item()
        4.0
    """
    with torch.autocast(dominant.device.type, enabled=False):
        return F.mse_loss(_at_least_float32(dominant), _at_least_float32(auxiliary))


def dense_byol(dominant: Float[Tensor, "m d h w"], auxiliary: Float[Tensor, "m d h w"]) -> Float[Tensor, ""]:
    """Squared distance of the normalised projections, 2 - 2 cos, the mean over slices and pixels.

    Equation 2 of BYOL (arXiv:2006.07733) at every pixel. A zero vector has no direction: its cosine to anything is 0,
    and so is its gradient.

    Example:
        >>> dense_byol(torch.tensor([3.0, 0.0]).view(1, 2, 1, 1), torch.tensor([0.0, 5.0]).view(1, 2, 1, 1)).item()
        2.0
    """
    with torch.autocast(dominant.device.type, enabled=False):
        return 2 - 2 * (_directions(dominant) * _directions(auxiliary)).sum(1).mean()


def _directions(x: Float[Tensor, "m d h w"]) -> Float[Tensor, "m d h w"]:
    x = _at_least_float32(x)
    norms = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x * torch.where(norms > EPSILON, 1 / norms.clamp(min=EPSILON), 0)


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
