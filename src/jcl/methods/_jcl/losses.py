"""How JCL compares the rows of its two branches: by contrasts, or pixel by pixel (table 9)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from jcl.distributed.comm import gather
from jcl.losses.contrastive import position_mask
from jcl.losses.dense import dense_byol, dense_mse

__all__ = ["SAME_PIXEL", "Contrast", "SamePixel"]


@dataclass(frozen=True)
class Contrast:
    """Slices near in position attract each other, those of all processes (equations 10 and 11)."""

    loss: Callable[..., Tensor]
    crossed: bool
    """Dominant rows with auxiliary ones, in place of the rows of both branches with all others."""
    threshold: float
    temperature: float

    def rows(self, auxiliary: Tensor, dominant: Tensor) -> tuple[Tensor, Tensor]:
        """What is compared."""
        return gather(auxiliary), gather(dominant)

    def __call__(self, auxiliary: Tensor, dominant: Tensor, positions: Tensor) -> Tensor:
        """The loss, given the position of each row of a branch."""
        if self.crossed:
            near = position_mask(positions, self.threshold)
            return self.loss(dominant, auxiliary, near, temperature=self.temperature)
        rows, near = torch.cat([auxiliary, dominant]), position_mask(positions.repeat(2), self.threshold)
        return self.loss(rows, rows, near, temperature=self.temperature)


@dataclass(frozen=True)
class SamePixel:
    """Each pixel is compared with the same one of the same slice, a mean over the slices of this process."""

    loss: Callable[[Tensor, Tensor], Tensor]

    def rows(self, auxiliary: Tensor, dominant: Tensor) -> tuple[Tensor, Tensor]:
        """What is compared."""
        return auxiliary, dominant

    def __call__(self, auxiliary: Tensor, dominant: Tensor, positions: Tensor) -> Tensor:
        """The loss; positions play no part."""
        return self.loss(dominant, auxiliary)


SAME_PIXEL = {"mse": SamePixel(dense_mse), "byol": SamePixel(dense_byol)}
"""L_d in the other rows of table 9."""
