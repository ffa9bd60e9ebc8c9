"""JCL: multi-level asymmetric contrastive learning of encoder and decoder together (Zeng et al., 2023)."""

from contextlib import nullcontext
from typing import cast

import torch
from torch import Generator, Tensor, nn

from jcl.backbones import Backbone, pad_to_multiple
from jcl.collapse import collapse_monitor
from jcl.data.batches import SliceBatch
from jcl.dense import dense_byol, dense_mse
from jcl.distributed import gather
from jcl.errors import UsageError
from jcl.heads import InstanceProjector, PixelProjector
from jcl.losses import dense_info_nce, equivariance, info_nce, position_mask
from jcl.parts import copy_parts, draw_anew, frozen
from jcl.saved_number import keep_number, number, set_number
from jcl.teacher import follow, make_teacher
from jcl.views import AffineRanges, IntensityRanges, jitter, random_view, shrink

__all__ = ["JCL"]

OFFERED = {
    "views": ("split", "paper"),
    "invariant": ("identity", "intensity"),
    "pairing": ("joint", "cross"),
    "dense_form": ("supcon", "mse", "byol"),
    "global_source": ("decoder", "encoder"),
    "connection": ("shared", "independent", "ema"),
    "stages": ("one", "two", "two-full-size"),
}


class JCL(nn.Module):
    """Two branches with one encoder (paper, section 3.2).

    The *auxiliary* branch sees views at full size and ends at the encoder's bottleneck; the *dominant* branch
    sees views shrunk by 2^blocks and goes on through the first `blocks` decoder blocks, so that both meet at
    h/16 x w/16. Each has an instance projector and a pixel projector of its own. The loss is

        L = global_weight L_g + dense_weight L_d + equivariance_weight L_ER        (equation 9)

    A loss of weight 0 is off: nothing is built, drawn or computed for it alone, nor a decoder that no loss reaches.
    The rows of the paper's table 3 are `blocks` 0 with `dense_weight` and `equivariance_weight` 0 (the loss of PCL),
    then `blocks` 2, then `equivariance_weight` 1, then `dense_weight` 0.5. Those of table 9 are PCL with `dense_weight`
    0.5 and a `dense_form`; there `invariant` should be `intensity`, since without shrinking the identity pair is one
    and the same to both branches.

    The authors' program multiplies L_g and L_d by temperature / 0.07 besides; scale the weights to get that.
    """

    learning_rate = 0.01
    """The paper's 0.1 collapses on small collections (see docs/results.md); the authors' scripts use 0.01."""

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
        dense_form: str = "supcon",
        projection: int = 128,
        global_source: str = "decoder",
        dominant_pixel_projector: bool = True,
        connection: str = "shared",
        momentum: float = 0.999,
        stages: str = "one",
        rotation: float = 30.0,
        scale: float = 0.3,
        translation: float = 0.1,
        elastic: float = 0.0,
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
            blocks: decoder blocks that are pre-trained (paper: 2), 0 for none; the dominant branch's views are
                shrunk by 2 to this power.
            temperature: tau (paper: 0.1).
            threshold: slices nearer than this in relative position are positives (paper, CHD: 0.1).
            global_weight: lambda_1 of the image loss L_g; 0 turns it off.
            dense_weight: lambda_2 of the pixel loss L_d; 0 turns it off.
            equivariance_weight: lambda_3 of the feature loss L_ER; 0 turns it off.
            dense_form: L_d as `supcon`, contrasts at each pixel (equation 11), or, in the rows of table 9, as `mse`
                or `byol` (mse of normalised projections) between the branches' projections of the same pixel of
                the same slice, which leave `pairing`, `temperature` and `threshold` aside.
            projection: channels of all projections (paper: 128).
            global_source: the dominant image projection is taken from the `decoder` (equation 8) or from the
                `encoder` (journal text).
            dominant_pixel_projector: off, the decoder's output itself is contrasted (authors' program).
            connection: the auxiliary branch's encoder is the dominant one's (`shared`), one of its own that starts
                from other weights and is trained too (`independent`), or a moving average of it (`ema`); only the
                dominant branch's goes on to fine-tuning (table 7).
            momentum: what the `ema` encoder keeps of its weights at each step (0.999 as in MoCo).
            stages: encoder and decoder are trained together (`one`), or one after the other, for half of the run
                each (table 7). First the encoder with L_g alone and the auxiliary image projector for both
                branches; the dominant branch's views are shrunk in `two`, and of full size in `two-full-size`, as
                in PCL. Then the decoder with L_g and L_d, behind the encoder, which both branches share and which
                is frozen, as in GCL (equation 3); that, and which losses there are, the paper leaves open.
            rotation: degrees to either side.
            scale: 0.3 is a factor from 0.7 to 1.3.
            translation: shift as a share of the side.
            elastic: largest shift of a smooth random deformation, as a share of the side; 0 is off (papers), while
                the authors' program deforms.

        Raises:
            UsageError: a setting has a value that is not offered, or that leaves nothing to train.
        """
        super().__init__()
        _check_choices(
            views=views,
            invariant=invariant,
            pairing=pairing,
            dense_form=dense_form,
            global_source=global_source,
            connection=connection,
            stages=stages,
        )
        self.backbone = backbone
        self.view_preset, self.invariant, self.pairing, self.dense_form = views, invariant, pairing, dense_form
        self.blocks, self.temperature, self.threshold = blocks, temperature, threshold
        weights = {"global": global_weight, "dense": dense_weight, "equivariance": equivariance_weight}
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.global_source, self.connection, self.momentum, self.stages = global_source, connection, momentum, stages
        self.affine = AffineRanges(rotation=rotation, scale=scale, translation=translation)
        self.intensity, self.elastic = IntensityRanges(), elastic
        self.images_decoded = global_source == "decoder" and global_weight > 0
        self.decodes = blocks > 0 and (self.images_decoded or dense_weight > 0)
        self._check_numbers(weights)
        self._build_projectors(projection, dominant_pixel_projector)
        if connection != "shared":
            self._build_auxiliary_encoder()
        self.phases = 1 if stages == "one" else 2
        if self.phases == 2:
            keep_number(self, "phase", 0)  # saved, so that a run that is resumed knows its stage
        self.transfers = cast("Backbone", backbone).parts(blocks if self.decodes else 0)

    def _check_numbers(self, weights: dict[str, float]) -> None:
        deepest = cast("Backbone", self.backbone).blocks
        if not 0 <= self.blocks <= deepest:
            raise UsageError(f"blocks is {self.blocks}; this backbone's decoder has 0 to {deepest} to pre-train")
        for name, weight in weights.items():
            if weight < 0:
                raise UsageError(f"{name}_weight is {weight}; it can be 0 (off) or more")
        if not self.weights:
            raise UsageError("global_weight, dense_weight and equivariance_weight are all 0; give one of them a weight")
        for name, value in {"temperature": self.temperature, "threshold": self.threshold}.items():
            if not value > 0:
                raise UsageError(f"{name} is {value}; it has to be above 0")
        if not 0 <= self.momentum <= 1:
            raise UsageError(f"momentum is {self.momentum}; it can be 0 to 1")
        if self.stages != "one" and not ("global" in self.weights and self.decodes):
            raise UsageError(
                f"stages is {self.stages!r}, but one of them would have nothing to train; give global_weight and "
                "blocks more than 0, and dense_weight too where global_source is 'encoder'"
            )

    def _build_projectors(self, projection: int, dominant_pixel_projector: bool) -> None:
        """Two for each branch, `nn.Identity` in the place of those that are off."""
        network = cast("Backbone", self.backbone)
        deepest, decoded = network.feature_channels[-1], network.decoder_channels(self.blocks)
        images, pixels = "global" in self.weights, "dense" in self.weights
        source = decoded if self.global_source == "decoder" else deepest
        pixel_channels = projection if dominant_pixel_projector else decoded
        off = nn.Identity()
        self.auxiliary_instance = InstanceProjector(deepest, projection) if images else off
        self.auxiliary_pixel = PixelProjector(deepest, pixel_channels) if pixels else off
        asked = self.images_decoded or (images and self.stages == "one")
        self.dominant_instance = InstanceProjector(source, projection) if asked else off
        self.dominant_pixel = PixelProjector(decoded, pixel_channels) if pixels and dominant_pixel_projector else off

    def _build_auxiliary_encoder(self) -> None:
        encoder = copy_parts(self.backbone, cast("Backbone", self.backbone).parts(0))
        if self.connection == "independent":
            draw_anew(encoder)
        self.auxiliary_encoder = make_teacher(encoder) if self.connection == "ema" else encoder

    def views(self, batch: SliceBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        """Views of the auxiliary branch at full size and of the dominant branch, shrunk.

        In rows: `paper` has the two views of all slices one after the other in both branches. `split` has the
        invariant pair first and the variant pair after it, each only if a loss asks for it; with `joint` pairing one
        view of each pair goes through each branch, with `cross` both go through both, so that a slice's other view
        is off the diagonal.

        The sides are padded to multiples of 16 * 2^blocks, which both branches can halve to the end.
        """
        pairs = self._pairs_of_views(batch.images, generator)
        if self.view_preset == "split" and self.pairing == "joint":
            auxiliary, dominant = (torch.cat(one_of_each) for one_of_each in zip(*pairs, strict=True))
        else:
            auxiliary = dominant = torch.cat([view for pair in pairs for view in pair])
        factor = 1 if self.stages == "two-full-size" and self._trained() == "encoder" else 2**self.blocks
        multiple = cast("Backbone", self.backbone).stride * factor
        return pad_to_multiple(auxiliary, multiple), shrink(pad_to_multiple(dominant, multiple), factor)

    def _pairs_of_views(self, images: Tensor, generator: Generator) -> list[tuple[Tensor, Tensor]]:
        split, losses = self.view_preset == "split", self._losses()
        pairs: list[tuple[Tensor, Tensor]] = []
        if not split or "global" in losses:
            first, second = (
                random_view(images, self.affine, generator=generator, elastic=self.elastic) for _ in range(2)
            )
            pairs.append((first, second))
        if split and losses != {"global"}:
            still, again = (
                (jitter(images, self.intensity, generator=generator) for _ in range(2))
                if self.invariant == "intensity"
                else (images, images)
            )
            pairs.insert(0, (still, again))
        return pairs

    def forward(self, views: tuple[Tensor, Tensor], batch: SliceBatch) -> dict[str, Tensor]:
        """The losses that are on, their weighted sum, and the collapse monitor (see `Method`).

        The monitor watches what the first of the losses compares: image projections, or, where L_g is off, the means
        over the pixels of the others.
        """
        compared = self._compared(*self._encode(*views))
        views_of_each = 1 if self.view_preset == "split" and self.pairing == "joint" else 2
        positions = gather(batch.positions.repeat(views_of_each))
        losses = {name: self._loss(name, *pair, positions) for name, pair in compared.items()}
        total = torch.stack([self.weights[name] * value for name, value in losses.items()]).sum()
        auxiliary, dominant = (x.flatten(2).mean(2) if x.ndim == 4 else x for x in next(iter(compared.values())))
        return {"loss": total, **losses, **collapse_monitor(auxiliary, dominant)}

    def _encode(self, full: Tensor, small: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The auxiliary branch's bottleneck, and the features of the dominant one.

        Views of one size go through a shared encoder together, so that its batch statistics are those of both, as
        in PCL.
        """
        network = cast("Backbone", self.backbone)
        is_frozen = self._trained() == "decoder"
        with frozen(self.backbone, network.parts(0)) if is_frozen else nullcontext():
            if self.connection != "shared" and not is_frozen:
                return cast("Backbone", self.auxiliary_encoder).encode(full)[-1], network.encode(small)
            if full.shape != small.shape:
                return network.encode(full)[-1], network.encode(small)
            features = network.encode(torch.cat([full, small]))
            return features[-1][: len(full)], [level[len(full) :] for level in features]

    def _compared(self, bottleneck: Tensor, features: list[Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """What each loss compares, auxiliary and dominant; contrasts have the rows of all processes."""
        losses, deepest = self._losses(), features[-1]
        alone = self._trained() == "encoder"
        decodes = self.decodes and not alone
        decoded = cast("Backbone", self.backbone).decode(features, blocks=self.blocks) if decodes else deepest
        images, pixels = self._rows(losses, len(bottleneck))
        compared: dict[str, tuple[Tensor, Tensor]] = {}
        if "global" in losses:
            projector = self.auxiliary_instance if alone else self.dominant_instance  # PCL has one
            source = decoded if self.global_source == "decoder" else deepest
            projections = self.auxiliary_instance(bottleneck[images]), projector(source[images])
            compared["global"] = gather(projections[0]), gather(projections[1])
        if "dense" in losses:
            projections = self.auxiliary_pixel(bottleneck[pixels]), self.dominant_pixel(decoded[pixels])
            contrasts = self.dense_form == "supcon"
            compared["dense"] = (gather(projections[0]), gather(projections[1])) if contrasts else projections
        if "equivariance" in losses:
            compared["equivariance"] = bottleneck[pixels], deepest[pixels]
        return compared

    def _loss(self, name: str, auxiliary: Tensor, dominant: Tensor, positions: Tensor) -> Tensor:
        if name == "equivariance":
            return equivariance(dominant, auxiliary)
        if name == "dense" and self.dense_form != "supcon":
            return (dense_mse if self.dense_form == "mse" else dense_byol)(dominant, auxiliary)
        contrast = info_nce if name == "global" else dense_info_nce
        if self.pairing == "cross":
            return contrast(dominant, auxiliary, position_mask(positions, self.threshold), temperature=self.temperature)
        rows = torch.cat([auxiliary, dominant])
        return contrast(rows, rows, position_mask(positions.repeat(2), self.threshold), temperature=self.temperature)

    def after_step(self, progress: float) -> None:
        """The EMA encoder follows the dominant one; half-way the second of two stages begins."""
        if self.connection == "ema" and self._trained() != "decoder":
            for name, part in self.auxiliary_encoder.named_children():
                follow(part, self.backbone.get_submodule(name), self.momentum)
        if self.phases == 2:
            set_number(self, "phase", min(int(progress * 2), 1))

    def _trained(self) -> str:
        """Which part of the backbone is trained at present."""
        return "both" if self.phases == 1 else ("encoder", "decoder")[number(self, "phase")]

    def _losses(self) -> set[str]:
        """Those that are on, and train the part that is trained at present."""
        serving = {
            "both": {"global", "dense", "equivariance"},
            "encoder": {"global"},
            "decoder": {"global", "dense"} if self.images_decoded else {"dense"},
        }
        return serving[self._trained()] & self.weights.keys()

    def _rows(self, losses: set[str], count: int) -> tuple[slice, slice]:
        """Which rows the image loss takes, and which the pixel and feature losses (see `views`)."""
        if self.view_preset == "paper" or "global" not in losses or losses == {"global"}:
            return slice(None), slice(None)
        return slice(count // 2, None), slice(0, count // 2)


def _check_choices(**chosen: str) -> None:
    for name, value in chosen.items():
        if value not in OFFERED[name]:
            raise UsageError(f"{name} is {value!r}; it can be {' or '.join(OFFERED[name])}")
