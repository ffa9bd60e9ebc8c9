"""Parts of a network called for one view at a time, so that batch normalisation has the statistics of one view."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["by_view"]


def by_view(part: Callable[..., Tensor], levels: Sequence[Tensor], rows: int) -> Tensor:
    """What a part of the network makes of these tensors, called for `rows` of their rows at a time.

    Example:
        >>> by_view(lambda x: x - x.mean(), [torch.tensor([1.0, 3.0, 10.0, 30.0])], 2).tolist()
        [-1.0, 1.0, -10.0, 10.0]
    """
    found = [part(*each) for each in zip(*(level.split(rows) for level in levels), strict=True)]
    return found[0] if len(found) == 1 else torch.cat(found)
