"""SimSiam: one view predicts the other, held from collapse by a stop-gradient (Chen & He, 2021, arXiv:2011.10566)."""

from typing import Unpack

from torch import Generator, Tensor

from jcl.augment.published import MOCO_VIEWS, published
from jcl.backbones import Backbone
from jcl.data.batches import SliceBatch
from jcl.distributed.comm import gather
from jcl.losses.contrastive import negative_cosine
from jcl.methods._base import Method, ViewRanges
from jcl.ssl.collapse import collapse_monitor
from jcl.ssl.heads import MLP, MLPProjector

__all__ = ["SimSiam"]


class SimSiam(Method):
    """Encoder and projector z, predictor p; no negatives and no teacher (paper, section 3).

        L = D(p1, z2) / 2 + D(p2, z1) / 2,    D(p, z) = - cosine(p, stopgrad(z))        (equation 4)

    The projector has three layers with batch normalisation on the output too, the predictor two with a bottleneck.
    The views go through the network one after the other, as in the paper's algorithm 1: its batch normalisation
    takes the statistics of one view, and mixing both would leak one into the other.

    Adapted: the views are turned, scaled and shifted, as for all methods here, unless `augment` is `own`; colour has no
    meaning for slices of one channel. Projections and bottleneck have a quarter of the paper's 2,048 and 512 channels,
    for an encoder that ends in 512 channels where ResNet-50 has 2,048. The predictor's learning rate falls with the
    others', where the authors' program can keep it constant (paper, table 1: 68.1 % instead of 67.7 % on ImageNet).
    Batch normalisation takes its statistics within each process.
    """

    learning_rate = 0.01 / 3
    """By the sweep of rates in docs/methods.md; the paper's 0.05 n / 256 is 0.0031 for 16 slices."""

    dimensions = (2, 3)

    def __init__(
        self,
        backbone: Backbone,
        *,
        projection: int = 512,
        bottleneck: int = 128,
        augment: str = "shared",
        **ranges: Unpack[ViewRanges],
    ) -> None:
        """Set up projector and predictor behind the encoder of `backbone`.

        Args:
            projection: channels of the projector's layers and of the prediction (paper: 2048).
            bottleneck: hidden channels of the predictor (paper: 512, a quarter of the projection).
            augment: `shared`, the views that all methods have; or `own`, the crops and changes of intensity of the
                authors' program, mirrored too, for which `rotation`, `scale` and `translation` do not count.

        Raises:
            UsageError: `augment` has a value that is not offered.
        """
        super().__init__(backbone, **ranges)
        self.own_views = published(augment, MOCO_VIEWS, self.sides)
        deepest = backbone.feature_channels[-1]
        self.projector = MLPProjector(
            *(deepest, projection, projection, projection), output_norm=True, dimensions=self.sides
        )
        self.predictor = MLP(projection, bottleneck, projection)

    def views(self, batch: SliceBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        """Two augmented views of each slice."""
        return self.two_views(batch, generator)

    def forward(self, views: tuple[Tensor, ...], batch: SliceBatch) -> dict[str, Tensor]:
        """The loss, from -1 to 1, and the collapse monitor (see `Method`)."""
        z1, z2 = (self.projector(self.backbone.encode(view)[-1]) for view in views)
        p1, p2 = (gather(self.predictor(z)) for z in (z1, z2))
        z1, z2 = gather(z1.detach()), gather(z2.detach())
        loss = negative_cosine(p1, z2) / 2 + negative_cosine(p2, z1) / 2
        return {"loss": loss, **collapse_monitor(z1, z2)}
