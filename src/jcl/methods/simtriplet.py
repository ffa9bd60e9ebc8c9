"""SimTriplet: SimSiam with a neighbouring slice as third image (Liu et al., 2021, arXiv:2103.05585)."""

from typing import Unpack

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from jcl.arguments import check_choice
from jcl.augment.spatial import random_view
from jcl.backbones import Backbone
from jcl.data.batches import SliceBatch
from jcl.distributed.comm import gather
from jcl.losses.similarity import cosine
from jcl.methods._base import Method, ViewRanges
from jcl.ssl.by_view import by_view
from jcl.ssl.collapse import collapse_monitor

__all__ = ["SimTriplet"]


class SimTriplet(Method):
    """Encoder, projector and predictor; a slice attracts its other view and a view of its neighbour (paper, section 2).

    With D(p, z) = - cosine(p, stopgrad(z)), x1 and x2 two views of a slice and x3 a view of its neighbour,

        L = (D(p1, z2) + D(p2, z1)) / 2  +  (D(p1, z3) + D(p3, z1)) / 2

    the intra-sample and the inter-sample term of the paper. There are no negatives; the stop-gradient and the
    predictor keep it from collapsing.

    Adapted: the paper's neighbours are adjacent patches of a pathology slide, ours slices of the same volume, never of
    another volume. With `neighbours="store"` each slice comes with one, as in the authors' program, for a third pass
    through the network. By default the nearest is looked for in the batch of all processes, and its second view is x3.
    A slice that has none within `neighbourhood` has the intra-sample term alone.
    Batches are drawn from all volumes at random, so few slices have one: of 16 in a batch an eighth where there are 20
    volumes of 20 slices, and a fiftieth with 100 volumes of 15 (`paired` in the log is the share). It is then little
    more than SimSiam.
    """

    learning_rate = 0.001
    """By the sweep of rates in docs/methods.md; SimSiam's rule 0.05 n / 256 would give 0.003 for 16 slices."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        neighbourhood: float = 0.1,
        projection: int = 2048,
        bottleneck: int = 512,
        neighbours: str = "batch",
        batch_statistics: str = "joint",
        **ranges: Unpack[ViewRanges],
    ) -> None:
        """Set up projector and predictor behind the encoder of `backbone`.

        Args:
            neighbourhood: farthest that a neighbour may be, in relative position. At 0 there are no neighbours in a
                batch (SimSiam), and of a store those before and behind.
            projection: channels of projections and predictions (authors' program, as SimSiam: 2048).
            bottleneck: hidden channels of the predictor (authors' program, as SimSiam: 512).
            neighbours: they are looked for in the `batch`, or read from the `store` for every slice (authors' program).
            batch_statistics: batch normalisation over all views together (`joint`), or over each by itself (`view`,
                authors' program).

        Raises:
            UsageError: `neighbours` or `batch_statistics` has a value that is not offered.
        """
        super().__init__(backbone, **ranges)
        check_choice("neighbours", neighbours, "batch", "store")
        check_choice("batch_statistics", batch_statistics, "joint", "view")
        self.farthest, self.together = neighbourhood, batch_statistics == "joint"
        self.neighbourhood = neighbourhood if neighbours == "store" else None
        self.projector = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            *_linear_unit(backbone.feature_channels[-1], projection),
            *_linear_unit(projection, projection),
            nn.Linear(projection, projection, bias=False),
            nn.BatchNorm1d(projection),
        )
        self.predictor = nn.Sequential(*_linear_unit(projection, bottleneck), nn.Linear(bottleneck, projection))

    def views(self, batch: SliceBatch, generator: Generator) -> tuple[Tensor]:
        """Two views of each slice, and, where it comes with a neighbour, one of that."""
        views = [*self.two_views(batch, generator)]
        if self.neighbourhood is not None:
            assert batch.neighbours is not None, "the batches are to be read with neighbours"
            views.append(random_view(batch.neighbours, self.affine, generator=generator))
        return (torch.cat(views),)

    def forward(self, views: tuple[Tensor, ...], batch: SliceBatch) -> dict[str, Tensor]:
        """The loss, its two terms (inter-sample: per slice of the batch), `paired`, and the collapse monitor."""
        count = len(batch.positions)
        rows = len(views[0]) if self.together else count
        z = by_view(self._project, views, rows)
        p1, p2, *p3 = (gather(block) for block in by_view(self.predictor, [z], rows).split(count))
        z1, z2, *z3 = (gather(block) for block in z.detach().split(count))
        if z3:
            (p3,), (z3,) = p3, z3
            found = torch.ones(len(z1), device=z1.device)
        else:
            near, found = neighbours(gather(batch.positions), gather(batch.volumes), self.farthest)
            p3, z3 = p2[near], z2[near]
        intra = _attract(p1, z2, p2, z1).mean()
        inter = (_attract(p1, z3, p3, z1) * found).mean()
        return {
            "loss": intra + inter,
            "intra": intra,
            "inter": inter,
            "paired": found.float().mean(),
            **collapse_monitor(z1, z2),
        }

    def _project(self, images: Tensor) -> Tensor:
        return self.projector(self.bottleneck(images))


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
