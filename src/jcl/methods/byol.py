"""BYOL: one view predicts what a slow copy of the network makes of the other (Grill et al., 2020, arXiv:2006.07733)."""

from typing import Unpack

import torch
from torch import Generator, Tensor

from jcl.augment.published import BYOL_VIEWS, published
from jcl.backbones import Backbone
from jcl.data.batches import SliceBatch
from jcl.distributed.comm import gather
from jcl.losses.contrastive import negative_cosine
from jcl.methods._base import Method, ViewRanges
from jcl.ssl.collapse import collapse_monitor
from jcl.ssl.heads import MLP, MLPProjector
from jcl.ssl.momentum import cosine_momentum, make_teacher, update_ema

__all__ = ["BYOL"]


class BYOL(Method):
    """Encoder, projector z and predictor q online; a teacher of encoder and projector z' (paper, section 3.1).

        L = |q(z1) - z2'|^2 + |q(z2) - z1'|^2    of unit vectors, = 4 - 2 cosine - 2 cosine        (equation 2)

    No gradient reaches the teacher, which follows with a momentum that rises from `momentum` to 1 (section 3.2).
    The views go through each network one after the other, as in the authors' program, so that batch normalisation has
    the statistics of one view.

    Adapted: the views are turned, scaled and shifted, as for all methods here, unless `augment` is `own`; colour jitter
    and grey-scale have no meaning for slices of one channel. The hidden layers have 512 channels instead of 4,096, for
    an encoder that ends in 512 where ResNet-50 has 2,048. The paper's batches of 4,096 under LARS become small ones
    under SGD. Batch normalisation takes its statistics within each process.
    """

    learning_rate = 0.01
    """By the sweep of rates in docs/methods.md; the paper's 0.2 n / 256 (LARS) is 0.0125 for 16 slices."""

    dimensions = (2, 3)

    def __init__(
        self,
        backbone: Backbone,
        *,
        momentum: float = 0.996,
        projection: int = 256,
        hidden: int = 512,
        augment: str = "shared",
        **ranges: Unpack[ViewRanges],
    ) -> None:
        """Set up projector, predictor and teacher around `backbone`.

        Args:
            momentum: of the teacher at the beginning (paper: 0.996).
            projection: channels of projections and predictions (paper: 256).
            hidden: hidden channels of projector and predictor (paper: 4096).
            augment: `shared`, the views that all methods have; or `own`, the crops and changes of intensity of the
                authors' program, mirrored too, for which `rotation`, `scale` and `translation` do not count.

        Raises:
            UsageError: `augment` has a value that is not offered.
        """
        super().__init__(backbone, **ranges)
        self.own_views = published(augment, BYOL_VIEWS, self.sides)
        self.momentum = momentum
        self.projector = MLPProjector(backbone.feature_channels[-1], hidden, projection, dimensions=self.sides)
        self.predictor = MLP(projection, hidden, projection)
        self.teacher_backbone = make_teacher(backbone)
        self.teacher_projector = make_teacher(self.projector)

    def views(self, batch: SliceBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        """Two augmented views of each slice."""
        return self.two_views(batch, generator)

    def forward(self, views: tuple[Tensor, ...], batch: SliceBatch) -> dict[str, Tensor]:
        """The loss, from 0 to 8, and the collapse monitor of the online projections (see `Method`)."""
        z1, z2 = (self.projector(self.backbone.encode(view)[-1]) for view in views)
        q1, q2 = (gather(self.predictor(z)) for z in (z1, z2))
        with torch.no_grad():
            target1, target2 = (
                gather(self.teacher_projector(self.teacher_backbone.encode(view)[-1])) for view in views
            )
        loss = 4 + 2 * negative_cosine(q1, target2) + 2 * negative_cosine(q2, target1)
        return {"loss": loss, **collapse_monitor(gather(z1.detach()), gather(z2.detach()))}

    def after_step(self, progress: float) -> None:
        """The teacher follows."""
        momentum = cosine_momentum(progress, self.momentum)
        update_ema(self.teacher_backbone, self.backbone, momentum)
        update_ema(self.teacher_projector, self.projector, momentum)
