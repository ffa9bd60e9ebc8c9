"""SimSiam: one view predicts the other, held from collapse by a stop-gradient (Chen & He, 2021, arXiv:2011.10566)."""

from typing import cast

from torch import Generator, Tensor, nn

from jcl.backbones import Backbone
from jcl.collapse import collapse_monitor
from jcl.data.batches import SliceBatch
from jcl.distributed import gather
from jcl.heads import MLP, MLPProjector
from jcl.losses import negative_cosine
from jcl.views import AffineRanges, random_view

__all__ = ["SimSiam"]


class SimSiam(nn.Module):
    """Encoder and projector z, predictor p; no negatives and no teacher (paper, section 3).

        L = D(p1, z2) / 2 + D(p2, z1) / 2,    D(p, z) = - cosine(p, stopgrad(z))        (equation 4)

    The projector has three layers with batch normalisation on the output too, the predictor two with a bottleneck.
    The views go through the network one after the other, as in the paper's algorithm 1: its batch normalisation
    takes the statistics of one view, and mixing both would let them tell of each other.

    Adapted: the views are turned, scaled and shifted, as for all methods here; colour has no meaning for slices of one
    channel. Projections and bottleneck have a quarter of the paper's 2,048 and 512 channels, for an encoder that ends
    in 512 channels where ResNet-50 has 2,048. The predictor's learning rate falls with the others', where the authors'
    program can keep it constant (paper, table 1: 68.1 % instead of 67.7 % on ImageNet). Batch normalisation takes its
    statistics within each process.
    """

    learning_rate = 0.01
    """The paper's 0.05 n / 256 is 0.003 for 16 slices, but for some hundred thousand steps."""

    phases = 1

    def __init__(
        self,
        backbone: nn.Module,
        *,
        projection: int = 512,
        bottleneck: int = 128,
        rotation: float = 30.0,
        scale: float = 0.3,
        translation: float = 0.1,
    ) -> None:
        """Set up projector and predictor behind the encoder of `backbone`.

        Args:
            backbone: see `jcl.backbones.Backbone`.
            projection: channels of the projector's layers and of the prediction (paper: 2048).
            bottleneck: hidden channels of the predictor (paper: 512, a quarter of the projection).
            rotation: degrees to either side.
            scale: 0.3 is a factor from 0.7 to 1.3.
            translation: shift as a share of the side.
        """
        super().__init__()
        self.backbone = backbone
        self.affine = AffineRanges(rotation=rotation, scale=scale, translation=translation)
        network = cast("Backbone", backbone)
        deepest = network.feature_channels[-1]
        self.projector = MLPProjector(deepest, projection, projection, projection, output_norm=True)
        self.predictor = MLP(projection, bottleneck, projection)
        self.transfers = network.parts(0)

    def views(self, batch: SliceBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        """Two augmented views of each slice."""
        first, second = (random_view(batch.images, self.affine, generator=generator) for _ in range(2))
        return first, second

    def forward(self, views: tuple[Tensor, Tensor], batch: SliceBatch) -> dict[str, Tensor]:
        """The loss, from -1 to 1, and the collapse monitor (see `Method`)."""
        network = cast("Backbone", self.backbone)
        z1, z2 = (self.projector(network.encode(view)[-1]) for view in views)
        p1, p2 = (gather(self.predictor(z)) for z in (z1, z2))
        z1, z2 = gather(z1.detach()), gather(z2.detach())
        loss = negative_cosine(p1, z2) / 2 + negative_cosine(p2, z1) / 2
        return {"loss": loss, **collapse_monitor(z1, z2)}

    def after_step(self, progress: float) -> None:
        """Nothing to update."""
