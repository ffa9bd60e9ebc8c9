"""PCL: positional contrastive learning (Zeng et al., 2021, arXiv:2106.09157)."""

from typing import Unpack

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from jcl.arguments import check_choice
from jcl.backbones import Backbone
from jcl.data.batches import SliceBatch
from jcl.distributed.comm import gather
from jcl.losses.contrastive import info_nce, position_mask
from jcl.methods._base import Method, ViewRanges
from jcl.ssl.by_view import by_view
from jcl.ssl.collapse import collapse_monitor
from jcl.ssl.heads import InstanceProjector

__all__ = ["PCL"]


class PCL(Method):
    """An encoder whose slices attract each other where they are near in relative position (paper, section 2).

    Two augmented views of each slice go through the encoder and a projector; all 2n projections are contrasted
    with all others:

        L = mean_i - 1/|P_i| sum_{j in P_i} log( exp(z_i.z_j / t) / sum_{k != i} exp(z_i.z_k / t) )

    P_i holds the other view of slice i and both views of every slice, of any volume, whose position is nearer than
    the threshold. With threshold 0 it is SimCLR's NT-Xent (arXiv:2002.05709); JCL with the global loss alone and
    no decoder is the same loss.

    Adapted: the paper's L sums over anchors, ours is the mean, and the authors' program multiplies it by t / 0.07
    besides, which `weight` gives; projections of one convolutional level pooled, as in JCL's appendix, whatever the
    size of the slice. What the authors' program has otherwise are settings (docs/methods.md).
    """

    learning_rate = 0.01
    """By the sweep of rates in docs/methods.md; the authors' 0.1 is for 32 slices, and collapses JCL on small sets."""

    dimensions = (2, 3)

    def __init__(
        self,
        backbone: Backbone,
        *,
        temperature: float = 0.1,
        threshold: float = 0.1,
        projection: int = 128,
        batch_statistics: str = "joint",
        weight: float = 1.0,
        **ranges: Unpack[ViewRanges],
    ) -> None:
        """Set up the projector behind the encoder of `backbone`.

        Args:
            temperature: t (paper: 0.1).
            threshold: slices nearer than this in relative position are positives (paper, CHD: 0.1); 0 is SimCLR.
            projection: channels of the projections (paper: 128; authors' program: 512).
            batch_statistics: batch normalisation over both views together (`joint`), or over each by itself
                (`view`, authors' program).
            weight: factor of the loss (authors' program: temperature / 0.07, which is 1.4286 at 0.1).

        Raises:
            UsageError: `batch_statistics` has a value that is not offered.
        """
        super().__init__(backbone, **ranges)
        check_choice("batch_statistics", batch_statistics, "joint", "view")
        self.temperature, self.threshold, self.weight = temperature, threshold, weight
        self.together = batch_statistics == "joint"
        self.projector = InstanceProjector(backbone.feature_channels[-1], projection, dimensions=self.sides)

    def forward(self, views: tuple[Tensor, ...], batch: SliceBatch) -> dict[str, Tensor]:
        """The loss, and the collapse monitor (see `Method`)."""
        rows = len(views[0]) // (1 if self.together else 2)
        z = self.projector(by_view(self.bottleneck, views, rows))
        first, second = (gather(block) for block in z.chunk(2))
        projections = torch.cat([first, second])
        depths = None if batch.depths is None else gather(batch.depths)
        positives = positive_pairs(gather(batch.positions), self.threshold, depths)
        loss = info_nce(projections, projections, positives, temperature=self.temperature)
        return {"loss": self.weight * loss, **collapse_monitor(first, second)}


def positive_pairs(
    positions: Float[Tensor, " n"], threshold: float, depths: Int[Tensor, " n"] | None = None
) -> Bool[Tensor, "two_n two_n"]:
    """Positives of 2n rows, the first views of n slices and then the second ones (see `position_mask`).

    The other view of the slice is one at any threshold; at 0 `position_mask` finds nothing near, not even that.

    Examples:
        >>> positive_pairs(torch.tensor([0.1, 0.9]), 0.0).int().tolist()
        [[0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]
    """
    same_slice = torch.eye(len(positions), dtype=torch.bool, device=positions.device).repeat(2, 2)
    near = position_mask(positions, threshold, depths).repeat(2, 2)
    return (near | same_slice).fill_diagonal_(False)
