"""SimTriplet: SimSiam with a neighbouring slice as third image (Liu et al., 2021, arXiv:2103.05585)."""

from typing import Unpack

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from jcl.backbones import Backbone
from jcl.data.batches import SliceBatch
from jcl.distributed.comm import gather
from jcl.losses.similarity import cosine
from jcl.methods._base import Method, ViewRanges
from jcl.ssl.collapse import collapse_monitor

__all__ = ["SimTriplet"]


class SimTriplet(Method):
    """Encoder, projector and predictor; a slice attracts its other view and a view of its neighbour (paper, section 2).

    With D(p, z) = - cosine(p, stopgrad(z)), x1 and x2 two views of a slice and x3 a view of its neighbour,

        L = (D(p1, z2) + D(p2, z1)) / 2  +  (D(p1, z3) + D(p3, z1)) / 2

    the intra-sample and the inter-sample term of the paper. There are no negatives; the stop-gradient and the
    predictor keep it from collapsing.

    Adapted: the paper's neighbours are adjacent patches of a pathology slide, ours the nearest other slice of the
    same volume, never of another volume. It is looked for in the batch of all processes, and its second view is
    x3, so that a triplet costs no third pass. A slice that has none within `neighbourhood` has the intra-sample
    term alone. Batches are drawn from all volumes at random, so few slices have one: of 16 in a batch an eighth where
    there are 20 volumes of 20 slices, and a fiftieth with 100 volumes of 15 (`paired` in the log is the share). It is
    then little more than SimSiam; larger batches or a wider neighbourhood give more triplets.
    """

    learning_rate = 0.01
    """JCL's; not tuned. SimSiam's rule 0.05 n / 256 would give 0.003 for 16 slices, in runs far longer than ours."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        neighbourhood: float = 0.1,
        projection: int = 2048,
        bottleneck: int = 512,
        **ranges: Unpack[ViewRanges],
    ) -> None:
        """Set up projector and predictor behind the encoder of `backbone`.

        Args:
            neighbourhood: farthest that a neighbour may be, in relative position (0: no neighbours, SimSiam).
            projection: channels of projections and predictions (paper, as SimSiam: 2048).
            bottleneck: hidden channels of the predictor (paper, as SimSiam: 512).
        """
        super().__init__(backbone, **ranges)
        self.neighbourhood = neighbourhood
        self.projector = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            *_linear_unit(backbone.feature_channels[-1], projection),
            *_linear_unit(projection, projection),
            nn.Linear(projection, projection, bias=False),
            nn.BatchNorm1d(projection),
        )
        self.predictor = nn.Sequential(*_linear_unit(projection, bottleneck), nn.Linear(bottleneck, projection))

    def forward(self, views: tuple[Tensor, ...], batch: SliceBatch) -> dict[str, Tensor]:
        """The loss, its two terms (inter-sample: per slice of the batch), `paired`, and the collapse monitor."""
        z = self.projector(self.backbone.encode(views[0])[-1])
        p1, p2 = (gather(block) for block in self.predictor(z).chunk(2))
        z1, z2 = (gather(block) for block in z.detach().chunk(2))
        near, found = neighbours(gather(batch.positions), gather(batch.volumes), self.neighbourhood)
        intra = _attract(p1, z2, p2, z1).mean()
        inter = (_attract(p1, z2[near], p2[near], z1) * found).mean()
        return {
            "loss": intra + inter,
            "intra": intra,
            "inter": inter,
            "paired": found.float().mean(),
            **collapse_monitor(z1, z2),
        }


def neighbours(
    positions: Float[Tensor, " n"], volumes: Int[Tensor, " n"], farthest: float
) -> tuple[Int[Tensor, " n"], Bool[Tensor, " n"]]:
    """Row of the nearest other slice of the same volume, and whether there is one at most `farthest` away.

    Where there is none, the row means nothing. A row at the same position of the same volume is the same slice.

    Examples:
        >>> positions, volumes = torch.tensor([0.10, 0.15, 0.18, 0.15]), torch.tensor([7, 7, 7, 8])
        >>> [x.tolist() for x in neighbours(positions, volumes, 0.1)]
        [[1, 2, 1, 0], [True, True, True, False]]
    """
    distances = (positions[:, None] - positions[None, :]).abs()
    others = (volumes[:, None] == volumes[None, :]) & (distances > 0)
    nearest, rows = distances.masked_fill(~others, torch.inf).min(dim=1)
    return rows, nearest < farthest + 1e-4  # two slices of 20 are 0.1 apart, whatever way that was rounded


def _attract(
    p: Float[Tensor, "n d"], target: Float[Tensor, "n d"], other: Float[Tensor, "n d"], own: Float[Tensor, "n d"]
) -> Float[Tensor, " n"]:
    """(D(p, target) + D(other, own)) / 2 of each row; `target` and `own` come without gradient."""
    return -(cosine(p, target) + cosine(other, own)) / 2


def _linear_unit(in_channels: int, out_channels: int) -> list[nn.Module]:
    """Linear -> BatchNorm -> ReLU; the normalisation takes out a bias again."""
    return [nn.Linear(in_channels, out_channels, bias=False), nn.BatchNorm1d(out_channels), nn.ReLU(inplace=True)]
