"""JCL: multi-level asymmetric contrastive learning of encoder and decoder together (Zeng et al., 2023)."""

from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

from jcl.backbones import Backbone, pad_to_multiple
from jcl.collapse import collapse_monitor
from jcl.data.batches import SliceBatch
from jcl.distributed import gather
from jcl.errors import UsageError
from jcl.heads import InstanceProjector, PixelProjector
from jcl.losses import dense_info_nce, equivariance, info_nce, position_mask
from jcl.views import AffineRanges, IntensityRanges, jitter, random_view, shrink

__all__ = ["JCL"]


class JCL(nn.Module):
    """Two branches with one encoder (paper, section 3.2).

    The *auxiliary* branch sees views at full size and ends at the encoder's bottleneck; the *dominant* branch
    sees views shrunk by 2^blocks and goes on through the first `blocks` decoder blocks, so that both meet at
    h/16 x w/16. Each has an instance projector and a pixel projector of its own. The loss is

        L = global_weight L_g + dense_weight L_d + equivariance_weight L_ER        (equation 9)

    The authors' program multiplies L_g and L_d by temperature / 0.07 besides; scale the weights to get that.
    """

    learning_rate = 0.01
    """The paper's 0.1 collapses on small collections (see docs/results.md); the authors' scripts use 0.01."""

    phases = 1

    def __init__(
        self,
        backbone: nn.Module,
        *,
        views: str = "split",
        invariant: str = "identity",
        pairing: str = "joint",
        blocks: int = 2,
        temperature: float = 0.1,
        threshold: float = 0.1,
        global_weight: float = 1.0,
        dense_weight: float = 0.5,
        equivariance_weight: float = 1.0,
        projection: int = 128,
        global_source: str = "decoder",
        dominant_pixel_projector: bool = True,
        rotation: float = 30.0,
        scale: float = 0.3,
        translation: float = 0.1,
    ) -> None:
        """Set up the projectors around `backbone`.

        Args:
            backbone: see `jcl.backbones.Backbone`.
            views: `split` gives pixel and feature losses a pair in which pixels keep their place, and the image
                loss a pair with spatial augmentation (journal version); `paper` gives both losses two
                augmented views, each through both branches (equations 5-12 read literally).
            invariant: the pair of `split` in which pixels keep their place: `identity` (journal text), or
                `intensity`, random gamma, contrast, brightness and noise.
            pairing: `joint` contrasts all projections of both branches with all (authors' program), `cross`
                dominant rows with auxiliary columns, without the diagonal (equations 10 and 11).
            blocks: decoder blocks that are pre-trained (paper: 2).
            temperature: tau (paper: 0.1).
            threshold: slices nearer than this in relative position are positives (paper, CHD: 0.1).
            global_weight: lambda_1 of the image loss L_g.
            dense_weight: lambda_2 of the pixel loss L_d.
            equivariance_weight: lambda_3 of the feature loss L_ER.
            projection: channels of all projections (paper: 128).
            global_source: the dominant image projection is taken from the `decoder` (equation 8) or from the
                `encoder` (journal text).
            dominant_pixel_projector: off, the decoder's output itself is contrasted (authors' program).
            rotation: degrees to either side.
            scale: 0.3 is a factor from 0.7 to 1.3.
            translation: shift as a share of the side.

        Raises:
            UsageError: a setting has a value that is not offered.
        """
        super().__init__()
        _one_of("views", views, ("split", "paper"))
        _one_of("invariant", invariant, ("identity", "intensity"))
        _one_of("pairing", pairing, ("joint", "cross"))
        _one_of("global_source", global_source, ("decoder", "encoder"))
        self.backbone = backbone
        self.view_preset, self.invariant, self.pairing = views, invariant, pairing
        self.blocks, self.temperature, self.threshold = blocks, temperature, threshold
        self.global_weight, self.dense_weight = global_weight, dense_weight
        self.equivariance_weight = equivariance_weight
        self.global_source = global_source
        self.affine = AffineRanges(rotation=rotation, scale=scale, translation=translation)
        self.intensity = IntensityRanges()
        network = cast("Backbone", backbone)
        deepest, decoded = network.feature_channels[-1], network.decoder_channels(blocks)
        pixel_channels = projection if dominant_pixel_projector else decoded
        self.auxiliary_instance = InstanceProjector(deepest, projection)
        self.auxiliary_pixel = PixelProjector(deepest, pixel_channels)
        self.dominant_instance = InstanceProjector(decoded if global_source == "decoder" else deepest, projection)
        self.dominant_pixel = PixelProjector(decoded, pixel_channels) if dominant_pixel_projector else nn.Identity()
        self.transfers = network.parts(blocks)

    def views(self, batch: SliceBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        """Views of the auxiliary branch at full size and of the dominant branch, shrunk.

        In rows: `paper` has the two views of all slices one after the other in both branches. `split` has the
        invariant pair first and the variant pair after it; with `joint` pairing one view of each pair goes
        through each branch, with `cross` both go through both, so that a slice's other view is off the
        diagonal.

        The sides are padded to multiples of 16 * 2^blocks, which both branches can halve to the end.
        """
        images = batch.images
        first, second = (random_view(images, self.affine, generator=generator) for _ in range(2))
        if self.view_preset == "paper":
            auxiliary = dominant = torch.cat([first, second])
        else:
            still, again = (
                (jitter(images, self.intensity, generator=generator) for _ in range(2))
                if self.invariant == "intensity"
                else (images, images)
            )
            if self.pairing == "joint":
                auxiliary, dominant = torch.cat([still, first]), torch.cat([again, second])
            else:
                auxiliary = dominant = torch.cat([still, again, first, second])
        factor = 2**self.blocks
        multiple = cast("Backbone", self.backbone).stride * factor
        return pad_to_multiple(auxiliary, multiple), shrink(pad_to_multiple(dominant, multiple), factor)

    def forward(self, views: tuple[Tensor, Tensor], batch: SliceBatch) -> dict[str, Tensor]:
        """The three losses, their weighted sum, and the collapse monitor (see `Method`)."""
        network = cast("Backbone", self.backbone)
        full, small = views
        bottleneck = network.encode(full)[-1]
        features = network.encode(small)
        decoded = network.decode(features, blocks=self.blocks)
        source = decoded if self.global_source == "decoder" else features[-1]

        pixels, images = self._rows(full.shape[0])
        auxiliary = gather(self.auxiliary_instance(bottleneck[images]))
        dominant = gather(self.dominant_instance(source[images]))
        views_of_each = full[images].shape[0] // len(batch.positions)
        positions = gather(batch.positions.repeat(views_of_each))
        losses = {"global": self._contrast(info_nce, auxiliary, dominant, positions)}
        if self.dense_weight:
            losses["dense"] = self._contrast(
                dense_info_nce,
                gather(self.auxiliary_pixel(bottleneck[pixels])),
                gather(self.dominant_pixel(decoded[pixels])),
                positions,
            )
        if self.equivariance_weight:
            losses["equivariance"] = equivariance(features[-1][pixels], bottleneck[pixels])
        weights = {
            "global": self.global_weight,
            "dense": self.dense_weight,
            "equivariance": self.equivariance_weight,
        }
        total = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        return {"loss": total, **losses, **collapse_monitor(auxiliary, dominant)}

    def after_step(self, progress: float) -> None:
        """Nothing to update: the encoder is shared."""

    def _rows(self, count: int) -> tuple[slice, slice]:
        """Which rows the pixel and feature losses take, and which the image loss."""
        if self.view_preset == "paper":
            return slice(None), slice(None)
        return slice(0, count // 2), slice(count // 2, None)

    def _contrast(self, loss: Any, auxiliary: Tensor, dominant: Tensor, positions: Tensor) -> Tensor:
        if self.pairing == "cross":
            positives = position_mask(positions, self.threshold)
            return loss(dominant, auxiliary, positives, temperature=self.temperature)
        rows = torch.cat([auxiliary, dominant])
        positives = position_mask(positions.repeat(2), self.threshold)
        return loss(rows, rows, positives, temperature=self.temperature)


def _one_of(name: str, value: str, offered: tuple[str, ...]) -> None:
    if value not in offered:
        raise UsageError(f"{name} is {value!r}; it can be {' or '.join(offered)}")
