"""MoCo v2: a slice's view against a queue of keys of a slow copy (He et al., 2020, arXiv:1911.05722; 2003.04297)."""

from typing import Unpack

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from jcl.augment.published import MOCO_VIEWS, published
from jcl.backbones import Backbone
from jcl.data.batches import SliceBatch
from jcl.distributed.comm import gather
from jcl.errors import UsageError
from jcl.losses.contrastive import queue_info_nce
from jcl.losses.similarity import unit
from jcl.methods._base import Method, ViewRanges
from jcl.ssl.collapse import collapse_monitor
from jcl.ssl.heads import InstanceProjector
from jcl.ssl.key_queue import KeyQueue
from jcl.ssl.momentum import make_teacher, update_ema

__all__ = ["MoCo"]


class MoCo(Method):
    """Encoder and projector for the queries q, a teacher of both for the keys k (paper, section 3.2).

        L = mean_i - log( exp(q_i.k_i / t) / (exp(q_i.k_i / t) + sum_j exp(q_i.u_j / t)) )        (equation 1)

    over the keys u of earlier batches. After each step the new keys take the place of the oldest, and the teacher
    follows the student.

    *The queue holds no positives*: a query leaves out earlier keys of its own slice, or of blocks of its volume that
    have slices in common with it (see `KeyQueue`).

    *Batch statistics.* Where query and key are normalised with the same slices, the statistics give the positive
    away, and the paper shuffles the batch over its GPUs. Here each batch is normalised in `groups`, queries in runs
    of rows and keys dealt out in turn, so that the two groups of a slice share only some of their slices. Batches
    being shuffled already, that takes no further draw.

    Adapted: the views are turned, scaled and shifted, as for all methods here, unless `augment` is `own`; MoCo v2's
    colour jitter and blur have no meaning, or destroy the small, in slices of one channel. The queue has 4,096 keys,
    since the paper's 65,536 are more than most sets have slices.
    """

    learning_rate = 0.01
    """By the sweep of rates in docs/methods.md; the paper's 0.03 for 256 images is 0.002 for 16 slices."""

    dimensions = (2, 3)

    def __init__(
        self,
        backbone: Backbone,
        *,
        temperature: float = 0.2,
        momentum: float = 0.999,
        queue: int = 4096,
        groups: int = 2,
        projection: int = 128,
        augment: str = "shared",
        **ranges: Unpack[ViewRanges],
    ) -> None:
        """Set up projector, teacher and queue around `backbone`.

        Args:
            temperature: t (MoCo v2: 0.2; MoCo: 0.07).
            momentum: of the teacher (paper: 0.999).
            queue: keys of earlier batches that are kept (paper: 65536).
            groups: parts of a batch that are normalised each by itself (paper: 8 GPUs); 1 is plain batch
                normalisation.
            projection: channels of the projections (paper: 128).
            augment: `shared`, the views that all methods have; or `own`, the crops and changes of intensity of the
                authors' program, mirrored too, for which `rotation`, `scale` and `translation` do not count.

        Raises:
            UsageError: `queue` or `groups` is less than 1, or `augment` has a value that is not offered.
        """
        super().__init__(backbone, **ranges)
        self.own_views = published(augment, MOCO_VIEWS, self.sides)
        for name, value in (("queue", queue), ("groups", groups)):
            if value < 1:
                raise UsageError(f"{name} is {value}; it has to be at least 1")
        self.temperature, self.momentum, self.groups = temperature, momentum, groups
        self.projector = InstanceProjector(backbone.feature_channels[-1], projection, dimensions=self.sides)
        self.teacher_backbone = make_teacher(backbone)
        self.teacher_projector = make_teacher(self.projector)
        self.queue = KeyQueue(queue, projection)
        self.arrived: dict[str, Tensor] = {}

    def views(self, batch: SliceBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        """Two augmented views of each slice, of the query and of the key."""
        return self.two_views(batch, generator)

    def forward(self, views: tuple[Tensor, ...], batch: SliceBatch) -> dict[str, Tensor]:
        """The loss and the collapse monitor of queries and keys (see `Method`)."""
        queries = gather(self.projector(encode_in_runs(self.backbone, views[0], self.groups)))
        with torch.no_grad():
            keys = unit(gather(self.teacher_projector(encode_dealt_out(self.teacher_backbone, views[1], self.groups))))
        volumes, positions = gather(batch.volumes), gather(batch.positions)
        own = self.queue.own(volumes, positions, shared_within(batch))
        loss = queue_info_nce(queries, keys, self.queue["keys"], own, temperature=self.temperature)
        self.arrived = {"keys": keys, "volumes": volumes, "positions": positions}
        return {"loss": loss, **collapse_monitor(queries, keys)}

    def after_step(self, progress: float) -> None:
        """Queue the keys of the step, of all processes, and let the teacher follow."""
        if self.arrived:
            self.queue.push(**self.arrived)
            self.arrived = {}
        update_ema(self.teacher_backbone, self.backbone, self.momentum)
        update_ema(self.teacher_projector, self.projector, self.momentum)


def shared_within(batch: SliceBatch) -> Float[Tensor, " n"] | None:
    """Of the blocks of all processes, how near in relative position two of a volume have a slice in common.

    The half of a slice less than their depth does not leave the answer to rounding. None for slices.
    """
    if batch.images.ndim == 4 or batch.depths is None:
        return None
    return (2 * batch.images.shape[2] - 1) / gather(batch.depths)


def encode_in_runs(backbone: Backbone, images: Float[Tensor, "b c *space"], groups: int) -> Float[Tensor, "b d *small"]:
    """Bottleneck of a batch in groups of rows that follow each other: of 0 1 2 3, (0 1) and (2 3)."""
    parts = images.tensor_split(min(groups, len(images)))
    return torch.cat([backbone.encode(part)[-1] for part in parts])


def encode_dealt_out(
    backbone: Backbone, images: Float[Tensor, "b c *space"], groups: int
) -> Float[Tensor, "b d *small"]:
    """Bottleneck of a batch in groups dealt out as cards are: of 0 1 2 3, (0 2) and (1 3)."""
    groups = min(groups, len(images))
    rows = torch.arange(len(images), device=images.device)
    features = torch.cat([backbone.encode(images[first::groups])[-1] for first in range(groups)])
    return features[torch.cat([rows[first::groups] for first in range(groups)]).argsort()]
