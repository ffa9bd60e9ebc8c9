"""JCL: multi-level asymmetric contrastive learning of encoder and decoder together (Zeng et al., 2023)."""

from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from jcl.augment.spatial import shrink
from jcl.backbones import Backbone, crop_like, dimensions_of, extend, growth, multiples_of, pad_to_multiple
from jcl.data.batches import SliceBatch
from jcl.data.blocks import BlockBatch
from jcl.distributed.comm import gather
from jcl.errors import UsageError
from jcl.losses.contrastive import info_nce, place_mask, position_mask
from jcl.losses.dense import dense_info_nce, equivariance
from jcl.methods._base import Method
from jcl.methods._jcl.ablations import Ablations, check_numbers
from jcl.methods._jcl.losses import SAME_PIXEL, Contrast
from jcl.methods._jcl.phases import Phase, auxiliary_encoder, encode_both, phases_of
from jcl.methods._jcl.views import Pair, view_pairs
from jcl.ssl.by_view import by_view
from jcl.ssl.collapse import collapse_monitor
from jcl.ssl.heads import InstanceProjector, PixelProjector, VoxelProjector
from jcl.ssl.host_buffer import host_scalar, register_host_scalar, set_host_scalar
from jcl.ssl.momentum import update_ema

__all__ = ["JCL"]


class JCL(Method):
    """Two branches with one encoder (paper, section 3.2).

    The *auxiliary* branch sees views at full size and ends at the encoder's bottleneck; the *dominant* branch
    sees views shrunk by 2^blocks and goes on through the first `blocks` decoder blocks, so that both meet at
    h/16 x w/16. Each has an instance projector and a pixel projector of its own. The loss is

        L = global_weight L_g + dense_weight L_d + equivariance_weight L_ER        (equation 9)

    A loss of weight 0 is off: nothing is built, drawn or computed for it alone, nor a decoder that no loss reaches.
    Which settings give which row of the paper's tables, and which the authors' program, is in docs/methods.md.

    The authors' program multiplies L_g and L_d by temperature / 0.07 besides; scale the weights to get that.
    """

    learning_rate = 0.01
    """The paper's 0.1 collapses on small collections (see docs/results.md); the authors' scripts use 0.01."""

    further_settings = (Ablations,)
    dimensions = (2, 3)

    def __init__(
        self,
        backbone: Backbone,
        *,
        blocks: int = 2,
        temperature: float = 0.1,
        threshold: float = 0.1,
        global_weight: float = 1.0,
        dense_weight: float = 0.5,
        equivariance_weight: float = 1.0,
        projection: int = 128,
        **further: Any,
    ) -> None:
        """Set up the projectors around `backbone`.

        Args:
            blocks: decoder blocks that are pre-trained (paper: 2), 0 for none; the dominant branch's views are
                shrunk by 2 to this power.
            temperature: tau (paper: 0.1).
            threshold: slices nearer than this in relative position are positives (paper, CHD: 0.1).
            global_weight: lambda_1 of the image loss L_g; 0 turns it off.
            dense_weight: lambda_2 of the pixel loss L_d; 0 turns it off.
            equivariance_weight: lambda_3 of the feature loss L_ER; 0 turns it off.
            projection: channels of all projections (paper: 128).
            further: see `Ablations`, and the ranges of the views in `Method`.

        Raises:
            UsageError: a setting has a value that is not offered, or that leaves nothing to train.
        """
        ablations, ranges = Ablations.take(further)
        super().__init__(backbone, **ranges)
        if ablations.position_axes == "all" and self.sides == 2:
            raise UsageError("position_axes is 'all', which is for blocks; slices have a position along the body only")
        weights = {"global": global_weight, "dense": dense_weight, "equivariance": equivariance_weight}
        check_numbers(backbone, weights, blocks=blocks, temperature=temperature, threshold=threshold)
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.ablations, self.blocks, self.threshold = ablations, blocks, threshold
        self.plan = phases_of(ablations, self.weights, blocks)
        self.phases = len(self.plan)
        self.pairs = view_pairs(ablations, self.affine)
        self.crossed = ablations.pairing == "cross"
        self.global_loss = Contrast(info_nce, self.crossed, temperature)
        dense_contrast = Contrast(dense_info_nce, self.crossed, temperature)
        self.dense_loss = SAME_PIXEL.get(ablations.dense_form, dense_contrast)
        self._build_projectors(projection)
        self.auxiliary_encoder = auxiliary_encoder(backbone, ablations.connection)
        if self.phases > 1:
            register_host_scalar(self, "phase", 0)  # saved, so that a run that is resumed knows its phase
        self.pretrained_modules = backbone.submodule_names(blocks if self.plan[-1].decodes else 0)

    def _build_projectors(self, projection: int) -> None:
        """Two for each branch, `nn.Identity` in the place of those that no phase asks for."""
        deepest, decoded = self.backbone.feature_channels[-1], self.backbone.decoder_channels(self.blocks)
        images, pixels = "global" in self.weights, "dense" in self.weights
        two_images = any("global" in phase.losses and not phase.one_projector for phase in self.plan)
        two_pixels = pixels and self.ablations.dominant_pixel_projector
        source = decoded if self.ablations.global_source == "decoder" else deepest
        pixel_channels = projection if self.ablations.dominant_pixel_projector else decoded
        off = nn.Identity()
        hidden = decoded if self.ablations.hidden_units == "decoder" else None
        sides = dimensions_of(self.backbone)
        instance = partial(InstanceProjector, out_channels=projection, hidden=hidden, dimensions=sides)
        pixel = PixelProjector if sides == 2 else VoxelProjector
        self.auxiliary_instance = instance(deepest) if images else off
        self.auxiliary_pixel = pixel(deepest, pixel_channels) if pixels else off
        self.dominant_instance = instance(source) if two_images else off
        self.dominant_pixel = pixel(decoded, pixel_channels) if two_pixels else off

    def views(self, batch: SliceBatch, generator: Generator) -> Pair:
        """Views of the auxiliary branch at full size and of the dominant branch, shrunk.

        In rows, the slices themselves and then a spatial view of each, of which each branch has its own: pixel and
        feature losses take the first half, the image loss the second (see `ViewPairs` for other ways).

        Each is padded to sides that its own branch can halve to the end, so the shrunk ones may show more beside
        the slice than the others do; that is cut off where the branches meet. Those of blocks are shrunk as the first
        decoder blocks enlarge them, which need not be alike.
        """
        auxiliary, dominant = self.pairs.draw(batch, self.current.losses, generator)
        whole, factor = multiples_of(self.backbone), self._factor
        small = shrink(pad_to_multiple(dominant, factor), factor, align_corners=self.aligned)
        return pad_to_multiple(auxiliary, whole), pad_to_multiple(small, whole)

    def forward(self, views: tuple[Tensor, ...], batch: SliceBatch) -> dict[str, Tensor]:
        """The losses that are on, their weighted sum, and the collapse monitor (see `Method`).

        The monitor watches what the first of the losses compares: image projections, or, where L_g is off, the means
        over the pixels of the others.
        """
        phase = self.current
        encoder = self.auxiliary_encoder
        apart = len(batch.positions) if self.ablations.batch_statistics == "view" else None
        bottleneck, features = encode_both(self.backbone, encoder, *views, rows=apart, freeze=not phase.encoder_trained)
        rows = apart or len(bottleneck)
        deepest = decoded = features[-1]
        if phase.decodes:
            decoded = crop_like(by_view(self._decode, features, rows), bottleneck)
        images, pixels = self.pairs.rows(len(bottleneck), phase.losses)
        positives = self._positives(batch)

        compared: dict[str, Pair] = {}
        losses: dict[str, Tensor] = {}
        if "global" in phase.losses:  # equations 8 and 10
            source = decoded if self.ablations.global_source == "decoder" else deepest
            project = self.auxiliary_instance if phase.one_projector else self.dominant_instance
            z = self.global_loss.rows(self.auxiliary_instance(bottleneck[images]), project(source[images]))
            compared["global"], losses["global"] = z, self.global_loss(*z, positives)
        if "dense" in phase.losses:  # equation 11
            d = self.dense_loss.rows(
                by_view(self.auxiliary_pixel, [bottleneck[pixels]], rows),
                by_view(self.dominant_pixel, [decoded[pixels]], rows),
            )
            compared["dense"], losses["dense"] = d, self.dense_loss(*d, positives)
        if "equivariance" in phase.losses:  # equation 12
            y = bottleneck[pixels], deepest[pixels]
            reach = [side * by for side, by in zip(y[1].shape[2:], self._factor, strict=True)]
            loss = equivariance(auxiliary=extend(y[0], reach), dominant=y[1], align_corners=self.aligned)
            compared["equivariance"], losses["equivariance"] = y, loss
        total = torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()  # equation 9

        first, second = (x.flatten(2).mean(2) if x.ndim > 2 else x for x in next(iter(compared.values())))
        return {"loss": total, **losses, **collapse_monitor(first, second)}

    def _decode(self, *features: Tensor) -> Tensor:
        return self.backbone.decode(list(features), blocks=self.blocks)

    def _positives(self, batch: SliceBatch) -> Tensor:
        """Which rows are positives of which: of both branches' one after the other, or, crossed, of each."""
        views, branches = 2 if self.pairs.crossed else 1, 1 if self.crossed else 2

        def of_rows(values: Tensor) -> Tensor:
            flat = (1,) * (values.ndim - 1)
            return gather(values.repeat(views, *flat)).repeat(branches, *flat)

        if self.ablations.position_axes == "all":
            assert isinstance(batch, BlockBatch)
            if batch.centres is None or batch.extents is None:
                raise UsageError("position_axes is 'all', but these blocks have no centres and extents")
            return place_mask(of_rows(batch.centres), of_rows(batch.extents), self.threshold)
        depths = None if batch.depths is None else of_rows(batch.depths)
        return position_mask(of_rows(batch.positions), self.threshold, depths)

    def after_step(self, progress: float) -> None:
        """The EMA encoder follows the dominant one; half-way the second of two phases begins."""
        teacher = self.auxiliary_encoder if self.ablations.connection == "ema" else None
        if teacher is not None and self.current.encoder_trained:
            for name, part in teacher.named_children():
                update_ema(part, self.backbone.get_submodule(name), self.ablations.momentum)
        if self.phases > 1:
            set_host_scalar(self, "phase", min(int(progress * 2), 1))

    @property
    def _factor(self) -> tuple[int, ...]:
        """By which the views of the dominant branch are shrunk now."""
        return growth(self.backbone, self.blocks if self.current.shrinks else 0)

    @property
    def aligned(self) -> bool:
        """Whether corner pixels stay on corner pixels where a size changes."""
        return self.ablations.resample == "align_corners"

    @property
    def current(self) -> Phase:
        """The part of the run that the next step belongs to."""
        return self.plan[host_scalar(self, "phase") if self.phases > 1 else 0]
