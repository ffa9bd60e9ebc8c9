"""GCL: contrastive learning of global and local features in two phases (Chaitanya et al., 2020, arXiv:2006.10511)."""

import itertools
from typing import Unpack

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from jcl.arguments import check_choice
from jcl.augment.intensity import IntensityRanges, jitter
from jcl.backbones import Backbone, growth, multiples_of
from jcl.backbones._surgery import frozen
from jcl.data.batches import SliceBatch
from jcl.distributed.comm import gather
from jcl.errors import UsageError
from jcl.losses.contrastive import info_nce
from jcl.losses.similarity import cosines
from jcl.methods._base import Method, ViewRanges
from jcl.ssl.by_view import by_view
from jcl.ssl.collapse import collapse_monitor
from jcl.ssl.heads import InstanceProjector
from jcl.ssl.host_buffer import host_scalar, register_host_scalar, set_host_scalar

__all__ = ["GCL"]

NO_NEGATIVE = -1e9
"""Exponent of what is not a negative: finite, so that an anchor without any has a gradient of 0 instead of NaN."""


class GCL(Method):
    """First the encoder with a global loss, then the decoder with a local one, the encoder frozen (paper, section 3).

    Both losses are means, over the ordered positive pairs (i, j), of

        l(i, j) = - log( exp(z_i.z_j / t) / (exp(z_i.z_j / t) + sum_{k in N_i} exp(z_i.z_k / t)) )

    with the cosine similarity; other positives are in no denominator, unlike in PCL.

    *Phase one* (projector g1): rows are two augmented views of each slice. Volumes are cut into
    `partitions` equal parts. N_i are the rows of other parts, of any volume. With `positives="partition"` (G^D, the
    default and that of the authors' scripts) all rows of the same part are positives; with `"views"` (G^D-) only
    the other view of the slice is, and the rest of the part is left out.

    *Phase two* (L^R; projector g2): the encoder is frozen, its batch normalisation too. The rows
    are 13 regions of region x region pixels (of a block 35 cubes) on a lattice in the output of decoder block `blocks`,
    in two intensity-transformed views of a slice. The same region of the other view is positive; N_i are all other
    regions of both views of this slice.

    *As the authors of PCL run it* (`program="pcl"`; so it is in the tables of PCL and, by its parameters, of JCL's
    journal version): the encoder alone, in one phase. All rows of a part are positives, and all other rows are in the
    denominator, as in PCL; a part is D / `partitions` slices, rounded, and the last has what is left. `blocks`,
    `region` and `positives` then mean nothing.

    Adapted: the paper draws one slice per part of some volumes, we take the batch as it comes, so that slices of one
    part of the same volume are positives too; g1 pools instead of flattening, so that any size fits; the authors'
    network has six levels and five decoder blocks and trains three of them, to a quarter of the image's
    sides, which 2 of our 4 blocks reach; the authors' program takes the 5 nearest regions as negatives to save
    memory and maps each region to 128 channels before comparing. The views of phase one have no intensity
    transform, as those of all methods here.
    """

    learning_rate = 0.01 / 3
    """By the sweep of rates in docs/methods.md. The paper has Adam at 0.001."""

    dimensions = (2, 3)

    phases = 2

    def __init__(
        self,
        backbone: Backbone,
        *,
        positives: str = "partition",
        partitions: int = 4,
        blocks: int = 2,
        region: int = 3,
        temperature: float = 0.1,
        projection: int = 128,
        program: str = "original",
        batch_statistics: str = "joint",
        weight: float = 1.0,
        **ranges: Unpack[ViewRanges],
    ) -> None:
        """Set up the two projectors around `backbone`.

        Args:
            positives: of the global loss: `partition` (G^D) or `views` (G^D-).
            partitions: equal parts of a volume (paper: 4).
            blocks: decoder blocks of phase two.
            region: side of a local region in pixels of the decoder's output (paper: 3).
            temperature: t of both losses (paper: 0.1).
            projection: channels of the global projections (paper: 128; PCL's program: 512).
            program: `original`, of two phases, or `pcl`, as the authors of PCL run it.
            batch_statistics: batch normalisation of phase one over both views together (`joint`), or over each by
                itself (`view`, PCL's program).
            weight: factor of the loss (PCL's program: temperature / 0.07, which is 1.4286 at 0.1).

        Raises:
            UsageError: `positives`, `blocks`, `program` or `batch_statistics` has a value that is not offered.
        """
        super().__init__(backbone, **ranges)
        check_choice("positives", positives, "partition", "views")
        check_choice("program", program, "original", "pcl")
        check_choice("batch_statistics", batch_statistics, "joint", "view")
        if blocks < 1:
            raise UsageError(f"blocks is {blocks}; phase two needs a decoder block, 1 at least")
        self.positives, self.partitions, self.weight = positives, partitions, weight
        self.together, self.as_in_pcl = batch_statistics == "joint", program == "pcl"
        self.blocks, self.region, self.temperature = blocks, region, temperature
        self.intensity = IntensityRanges()
        self.global_projector = InstanceProjector(backbone.feature_channels[-1], projection, dimensions=self.sides)
        register_host_scalar(self, "phase", 0)
        if self.as_in_pcl:
            self.phases = 1
            return
        channels = backbone.decoder_channels(blocks)
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if self.sides == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.local_projector = nn.Sequential(
            conv(channels, channels, 1, bias=False),
            norm(channels),
            nn.ReLU(inplace=True),
            conv(channels, channels, 1, bias=False),
        )
        self.pretrained_modules = backbone.submodule_names(blocks)

    def views(self, batch: SliceBatch, generator: Generator) -> tuple[Tensor]:
        """Two views of each slice: with spatial augmentation in phase one, with intensities changed in phase two.

        Raises:
            UsageError: the slices are too small for the regions of phase two; said before phase one begins.
        """
        if not self.as_in_pcl:
            self._check_size(batch.images)
        if self._phase() == 0:
            return (torch.cat(self.two_views(batch, generator)),)
        images = batch.images if self.sides == 2 else batch.images.flatten(1, 2)
        changed = torch.cat([jitter(images, self.intensity, generator=generator) for _ in range(2)])
        return (changed.view(-1, *batch.images.shape[1:]),)

    def forward(self, views: tuple[Tensor, ...], batch: SliceBatch) -> dict[str, Tensor]:
        """The loss of the current phase, and the collapse monitor (see `Method`) of its rows."""
        return self._global(views[0], batch) if self._phase() == 0 else self._local(views[0])

    def after_step(self, progress: float) -> None:
        """Phase two begins at half of the run."""
        set_host_scalar(self, "phase", min(int(progress * self.phases), self.phases - 1))

    def _phase(self) -> int:
        return host_scalar(self, "phase")

    def _global(self, views: Tensor, batch: SliceBatch) -> dict[str, Tensor]:
        count = len(views) // (1 if self.together else 2)
        z = self.global_projector(by_view(self.bottleneck, [views], count))
        first, second = (gather(block) for block in z.chunk(2))
        rows = torch.cat([first, second])
        if self.as_in_pcl:
            depths = None if batch.depths is None else gather(batch.depths)
            positives, _ = global_masks(
                rounded_partition(gather(batch.positions), self.partitions, depths), across=True
            )
            loss = info_nce(rows, rows, positives, temperature=self.temperature)
        else:
            parts = partition(gather(batch.positions), self.partitions)
            positives, negatives = global_masks(parts, across=self.positives == "partition")
            loss = mean_of_pairs(pair_losses(cosines(rows, rows) / self.temperature, negatives), positives)
        return {"loss": self.weight * loss, **collapse_monitor(first, second)}

    def _local(self, views: Tensor) -> dict[str, Tensor]:
        with frozen(self.backbone, self.backbone.submodule_names(0)):
            features = self.backbone.encode(views)
        maps = self.local_projector(self.backbone.decode(features, blocks=self.blocks))
        first, second = regions(maps, self.region).chunk(2)
        rows = torch.cat([first, second], dim=1)
        positives, negatives = local_masks(first.shape[1], device=rows.device)
        losses = pair_losses(cosines(rows, rows) / self.temperature, negatives)
        loss = gather(mean_of_pairs(losses, positives)).mean()
        return {
            "loss": self.weight * loss,
            **collapse_monitor(gather(first).flatten(0, 1), gather(second).flatten(0, 1)),
        }

    def _check_size(self, images: Tensor) -> None:
        whole = multiples_of(self.backbone)
        multiples = (whole,) * self.sides if isinstance(whole, int) else whole
        still = zip(*(growth(self.backbone, blocks) for blocks in (self.backbone.blocks, self.blocks)), strict=True)
        sides = zip(images.shape[2:], multiples, still, strict=True)
        if any(-(-side // each) * each < 5 * self.region * (every // some) for side, each, (every, some) in sides):
            kind, count = ("slices", 13) if self.sides == 2 else ("blocks", 35)
            raise UsageError(
                f"{kind} of {'x'.join(map(str, images.shape[2:]))} have no room for {count} local regions: set region "
                f"below {self.region} or blocks above {self.blocks} (--method.region, --method.blocks)"
            )


def partition(positions: Float[Tensor, " n"], count: int) -> Int[Tensor, " n"]:
    """Which of `count` equal parts of its volume each slice is in, from its relative position (i + 1) / D.

    Examples:
        >>> partition(torch.arange(1, 9) / 8, 4).tolist()
        [0, 0, 1, 1, 2, 2, 3, 3]
    """
    # the slice at the end of a part belongs to it, whatever way (i + 1) / D was rounded
    return ((positions * count - 1e-4).ceil().long() - 1).clamp(0, count - 1)


def rounded_partition(
    positions: Float[Tensor, " n"], count: int, depths: Int[Tensor, " n"] | None
) -> Int[Tensor, " n"]:
    """The parts as PCL's program has them: D / `count` slices each, half rounded up, the last part with what is left.

    Without `depths` there is nothing to round, and parts are those of `partition`.

    Example:
        >>> rounded_partition(torch.arange(1, 7) / 6, 4, torch.full((6,), 6)).tolist()
        [0, 0, 1, 1, 2, 2]
    """
    if depths is None:
        return partition(positions, count)
    each = ((2 * depths + count) // (2 * count)).clamp(min=1)  # with fewer slices than that the program cannot divide
    return (((positions * depths).round().long() - 1) // each).clamp(0, count - 1)


def global_masks(
    parts: Int[Tensor, " n"], *, across: bool
) -> tuple[Bool[Tensor, "two_n two_n"], Bool[Tensor, "two_n two_n"]]:
    """Positives and negatives of 2n rows, the first views of n slices and then the second ones.

    Args:
        parts: partition of each slice.
        across: all rows of a partition are positives of each other (G^D), else a slice's two views alone (G^D-).
    """
    rows = parts.repeat(2)
    same_part = rows[:, None] == rows[None, :]
    same_slice = torch.eye(len(parts), dtype=torch.bool, device=parts.device).repeat(2, 2)
    positives = same_part.clone() if across else same_slice
    return positives.fill_diagonal_(False), ~same_part


def local_masks(
    count: int, *, device: torch.device | str = "cpu"
) -> tuple[Bool[Tensor, "two_a two_a"], Bool[Tensor, "two_a two_a"]]:
    """Positives and negatives of the `count` regions of one view of a slice and then those of the other."""
    same_region = torch.eye(count, dtype=torch.bool, device=device).repeat(2, 2)
    return same_region.clone().fill_diagonal_(False), ~same_region


def pair_losses(logits: Float[Tensor, "*b m m"], negatives: Bool[Tensor, "m m"]) -> Float[Tensor, "*b m m"]:
    """l(i, j) of every pair, to be read where a pair is positive: log(1 + sum_{k in N_i} exp(s_ik - s_ij))."""
    against = logits.masked_fill(~negatives, NO_NEGATIVE).logsumexp(-1, keepdim=True)
    return F.softplus(against - logits)


def mean_of_pairs(losses: Float[Tensor, "*b m m"], positives: Bool[Tensor, "m m"]) -> Float[Tensor, "*b"]:
    """Mean of the losses of the positive pairs.

    Picking them out by the mask instead would make the host wait for a GPU to count them.
    """
    return torch.where(positives, losses, 0).sum((-2, -1)) / positives.sum()


def regions(maps: Float[Tensor, "n c *space"], side: int) -> Float[Tensor, "n r d"]:
    """13 regions of side x side pixels, flattened: a lattice of 3 x 3 over the map, and 2 x 2 between.

    Of blocks 35 cubes: 3 x 3 x 3 and 2 x 2 x 2. Their corners lie at 0, 1/2, 1, and at 1/4, 3/4, of the map's sides
    less `side`.
    """
    spaces = [length - side for length in maps.shape[2:]]
    quarters = [q for some in ((0, 2, 4), (1, 3)) for q in itertools.product(some, repeat=len(spaces))]
    corners = [[q * space // 4 for q, space in zip(each, spaces, strict=True)] for each in quarters]
    parts = [tuple(slice(start, start + side) for start in corner) for corner in corners]
    return torch.stack([maps[:, :, *part].flatten(1) for part in parts], dim=1)
