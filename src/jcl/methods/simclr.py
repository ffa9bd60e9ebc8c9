"""SimCLR: a slice's two views attract, all other slices of the batch repel (Chen et al., 2020, arXiv:2002.05709)."""

from typing import Unpack

import torch
from torch import Tensor

from jcl.augment.published import SIMCLR_VIEWS, published
from jcl.backbones import Backbone
from jcl.data.batches import SliceBatch
from jcl.distributed.comm import gather
from jcl.losses.contrastive import info_nce
from jcl.methods._base import Method, ViewRanges
from jcl.ssl.collapse import collapse_monitor
from jcl.ssl.heads import InstanceProjector

__all__ = ["SimCLR"]


class SimCLR(Method):
    """Encoder and projector; NT-Xent over the 2n projections of two views (paper, equation 1).

        L = mean_i - log( exp(z_i.z_j / t) / sum_{k != i} exp(z_i.z_k / t) ),    j the other view of i's slice

    Both views go through the network in one batch, as in the authors' program, so they share the statistics of
    batch normalisation.

    Adapted: the views are turned, scaled and shifted, as for all methods here, unless `augment` is `own`; colour
    distortion and grey-scale have no meaning for slices of one channel, and a mirrored crop none for anatomy. The
    paper's batches of 4,096 under LARS become small ones under SGD.
    """

    learning_rate = 0.01 / 3
    """By the sweep of rates in docs/methods.md; the paper scales 0.3 n / 256 for LARS, not for SGD."""

    dimensions = (2, 3)

    def __init__(
        self,
        backbone: Backbone,
        *,
        temperature: float = 0.1,
        projection: int = 128,
        augment: str = "shared",
        **ranges: Unpack[ViewRanges],
    ) -> None:
        """Set up the projector behind the encoder of `backbone`.

        Args:
            temperature: t (paper: 0.1, the best of its table 5).
            projection: channels of the projections (paper: 128).
            augment: `shared`, the views that all methods have; or `own`, the crops and changes of intensity of the
                authors' program, mirrored too, for which `rotation`, `scale` and `translation` do not count.

        Raises:
            UsageError: `augment` has a value that is not offered.
        """
        super().__init__(backbone, **ranges)
        self.own_views = published(augment, SIMCLR_VIEWS, self.sides)
        self.temperature = temperature
        self.projector = InstanceProjector(backbone.feature_channels[-1], projection, dimensions=self.sides)

    def forward(self, views: tuple[Tensor, ...], batch: SliceBatch) -> dict[str, Tensor]:
        """The loss and the collapse monitor (see `Method`)."""
        z = self.projector(self.backbone.encode(views[0])[-1])
        first, second = (gather(rows) for rows in z.chunk(2))
        rows = torch.cat([first, second])
        other_view = torch.eye(len(rows), dtype=torch.bool, device=rows.device).roll(len(first), 0)
        loss = info_nce(rows, rows, other_view, temperature=self.temperature)
        return {"loss": loss, **collapse_monitor(first, second)}
