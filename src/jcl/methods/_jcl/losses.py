"""How JCL compares the rows of its two branches: by contrasts, or pixel by pixel (table 9)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from jcl.distributed.comm import gather
from jcl.losses.dense import dense_byol, dense_mse

__all__ = ["SAME_PIXEL", "Contrast", "SamePixel"]


@dataclass(frozen=True)
class Contrast:
    """Slices near in position attract each other, those of all processes (equations 10 and 11)."""

    loss: Callable[..., Tensor]
    crossed: bool
    """Dominant rows with auxiliary ones, in place of the rows of both branches with all others."""
    temperature: float

    def rows(self, auxiliary: Tensor, dominant: Tensor) -> tuple[Tensor, Tensor]:
        """What is compared."""
        return gather(auxiliary), gather(dominant)

    def __call__(self, auxiliary: Tensor, dominant: Tensor, positives: Tensor) -> Tensor:
        """The loss, given which rows of both branches, or with `crossed` of either, are positives."""
        if self.crossed:
            return self.loss(dominant, auxiliary, positives, temperature=self.temperature)
        rows = torch.cat([auxiliary, dominant])
        return self.loss(rows, rows, positives, temperature=self.temperature)


@dataclass(frozen=True)
class SamePixel:
    """Each pixel is compared with the same one of the same slice, a mean over the slices of this process."""

    loss: Callable[[Tensor, Tensor], Tensor]

    def rows(self, auxiliary: Tensor, dominant: Tensor) -> tuple[Tensor, Tensor]:
        """What is compared."""
        return auxiliary, dominant

    def __call__(self, auxiliary: Tensor, dominant: Tensor, positives: Tensor) -> Tensor:
        """The loss; positives play no part."""
        return self.loss(dominant, auxiliary)


SAME_PIXEL = {"mse": SamePixel(dense_mse), "byol": SamePixel(dense_byol)}
"""L_d in the other rows of table 9."""
