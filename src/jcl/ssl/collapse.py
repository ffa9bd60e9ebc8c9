"""Whether the projections still distinguish slices."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["collapse_monitor"]


def collapse_monitor(first: Float[Tensor, "m d"], second: Float[Tensor, "m d"]) -> dict[str, Tensor]:
    """Spread and alignment of the projections of two views of m slices, to be logged beside the losses.

    `feature_std`: standard deviation over the slices of each normalised component, times sqrt(d): about 1 where
    the projections are spread over the sphere, 0 where all are the same (SimSiam, arXiv:2011.10566, section 4.1).
    `alignment`: mean cosine between the two views of a slice.
    """
    z = nn.functional.normalize(torch.stack([first, second]).detach().float(), dim=2)
    return {
        "feature_std": z.std(dim=1).mean() * z.shape[2] ** 0.5,
        "alignment": (z[0] * z[1]).sum(1).mean(),
    }
