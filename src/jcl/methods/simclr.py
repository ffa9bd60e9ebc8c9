"""SimCLR: a slice's two views attract, all other slices of the batch repel (Chen et al., 2020, arXiv:2002.05709)."""

from typing import cast

import torch
from torch import Generator, Tensor, nn

from jcl.backbones import Backbone
from jcl.collapse import collapse_monitor
from jcl.data.batches import SliceBatch
from jcl.distributed import gather
from jcl.heads import InstanceProjector
from jcl.losses import info_nce
from jcl.views import AffineRanges, random_view

__all__ = ["SimCLR"]


class SimCLR(nn.Module):
    """Encoder and projector; NT-Xent over the 2n projections of two views (paper, equation 1).

        L = mean_i - log( exp(z_i.z_j / t) / sum_{k != i} exp(z_i.z_k / t) ),    j the other view of i's slice

    Both views go through the network in one batch, as in the authors' program, so they share the statistics of
    batch normalisation.

    Adapted: the views are turned, scaled and shifted, as for all methods here; colour distortion and grey-scale have
    no meaning for slices of one channel, and a mirrored crop none for anatomy. The paper's batches of 4,096 under
    LARS become small ones under SGD.
    """

    learning_rate = 0.01
    """The paper scales 0.3 n / 256 for LARS, not for SGD; this is the rate of JCL, whose L_g is the same loss."""

    phases = 1

    def __init__(
        self,
        backbone: nn.Module,
        *,
        temperature: float = 0.1,
        projection: int = 128,
        rotation: float = 30.0,
        scale: float = 0.3,
        translation: float = 0.1,
    ) -> None:
        """Set up the projector behind the encoder of `backbone`.

        Args:
            backbone: see `jcl.backbones.Backbone`.
            temperature: t (paper: 0.1, the best of its table 5).
            projection: channels of the projections (paper: 128).
            rotation: degrees to either side.
            scale: 0.3 is a factor from 0.7 to 1.3.
            translation: shift as a share of the side.
        """
        super().__init__()
        self.backbone = backbone
        self.temperature = temperature
        self.affine = AffineRanges(rotation=rotation, scale=scale, translation=translation)
        network = cast("Backbone", backbone)
        self.projector = InstanceProjector(network.feature_channels[-1], projection)
        self.transfers = network.parts(0)

    def views(self, batch: SliceBatch, generator: Generator) -> tuple[Tensor]:
        """Two augmented views of each slice: the first of all slices, then the second."""
        return (torch.cat([random_view(batch.images, self.affine, generator=generator) for _ in range(2)]),)

    def forward(self, views: tuple[Tensor], batch: SliceBatch) -> dict[str, Tensor]:
        """The loss and the collapse monitor (see `Method`)."""
        z = self.projector(cast("Backbone", self.backbone).encode(views[0])[-1])
        first, second = (gather(rows) for rows in z.chunk(2))
        rows = torch.cat([first, second])
        other_view = torch.eye(len(rows), dtype=torch.bool, device=rows.device).roll(len(first), 0)
        loss = info_nce(rows, rows, other_view, temperature=self.temperature)
        return {"loss": loss, **collapse_monitor(first, second)}

    def after_step(self, progress: float) -> None:
        """Nothing to update."""
