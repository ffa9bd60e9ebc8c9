"""What can be set otherwise than in the JCL paper's main results: its ablations, and other readings of it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jcl.backbones import Backbone
from jcl.errors import UsageError

__all__ = ["Ablations", "check_numbers"]


def _one_of(*offered: str) -> Any:
    return dataclasses.field(default=offered[0], metadata={"offered": offered})


@dataclass(frozen=True, kw_only=True)
class Ablations:
    """Settings of JCL besides those of its equations; the defaults are the paper's.

    Args:
        views: `split` gives pixel and feature losses a pair in which pixels keep their place, and the image
            loss a pair with spatial augmentation (journal version); `paper` gives both losses two
            augmented views, each through both branches (equations 5-12 read literally).
        invariant: the pair of `split` in which pixels keep their place: `identity` (journal text), or
            `intensity`, random gamma, contrast, brightness and noise, of which the other pair is then made
            too (journal, equation 5; authors' program).
        pairing: `joint` contrasts all projections of both branches with all (authors' program), `cross`
            dominant rows with auxiliary columns, without the diagonal (equations 10 and 11).
        dense_form: L_d as `supcon`, contrasts at each pixel (equation 11), or, in the rows of table 9, as `mse`
            or `byol` (mse of normalised projections) between the branches' projections of the same pixel of
            the same slice, which leave `pairing`, `temperature` and `threshold` aside.
        global_source: the dominant image projection is taken from the `decoder` (equation 8) or from the
            `encoder` (journal text).
        dominant_pixel_projector: off, the decoder's output itself is contrasted (authors' program).
        hidden_units: of the image projectors, in the layer that the paper leaves open: as many as come in
            (`input`), or as the decoder's output has channels (`decoder`, authors' program).
        batch_statistics: batch normalisation over all views of one size together (`joint`), or over each
            view of the slices by itself (`view`, authors' program).
        resample: `area` shrinks views by means over areas, and features bilinearly; `align_corners` both
            bilinearly with corner pixels on corner pixels, without averaging (authors' program).
        connection: the auxiliary branch's encoder is the dominant one's (`shared`), one of its own that starts
            from other weights and is trained too (`independent`), or a moving average of it (`ema`); only the
            dominant branch's goes on to fine-tuning (table 7).
        momentum: what the `ema` encoder keeps of its weights at each step (0.999 as in MoCo).
        stages: encoder and decoder are trained together (`one`), or one after the other, for half of the run
            each (table 7). First the encoder with L_g alone and the auxiliary image projector for both
            branches; the dominant branch's views are shrunk in `two`, and of full size in `two-full-size`, as
            in PCL. Then the decoder with L_g and L_d, behind the encoder, which both branches share and which
            is frozen, as in GCL (equation 3); that, and which losses there are, the paper leaves open.
        position_axes: blocks are positives of each other where they are near along the `body`, as slices are, or along
            `all` three axes: by the relative position of their centres in the volume as it is stored.
        elastic: largest shift of a smooth random deformation, as a share of the side; 0 is off (papers), while
            the authors' program deforms.

    Raises:
        UsageError: a setting has a value that is not offered.
    """

    views: str = _one_of("split", "paper")
    invariant: str = _one_of("identity", "intensity")
    pairing: str = _one_of("joint", "cross")
    dense_form: str = _one_of("supcon", "mse", "byol")
    global_source: str = _one_of("decoder", "encoder")
    dominant_pixel_projector: bool = True
    hidden_units: str = _one_of("input", "decoder")
    batch_statistics: str = _one_of("joint", "view")
    resample: str = _one_of("area", "align_corners")
    connection: str = _one_of("shared", "independent", "ema")
    momentum: float = 0.999
    stages: str = _one_of("one", "two", "two-full-size")
    position_axes: str = _one_of("body", "all")
    elastic: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, offered = getattr(self, field.name), field.metadata.get("offered")
            if offered is not None and value not in offered:
                raise UsageError(f"{field.name} is {value!r}; it can be {' or '.join(offered)}")
        if not 0 <= self.momentum <= 1:
            raise UsageError(f"momentum is {self.momentum}; it can be 0 to 1")

    @classmethod
    def take(cls, settings: Mapping[str, Any]) -> "tuple[Ablations, dict[str, Any]]":
        """The ablations among the settings, and the other settings."""
        own = {field.name for field in dataclasses.fields(cls)}
        ablations = cls(**{name: value for name, value in settings.items() if name in own})
        return ablations, {name: value for name, value in settings.items() if name not in own}


def check_numbers(
    backbone: Backbone, weights: dict[str, float], *, blocks: int, temperature: float, threshold: float
) -> None:
    """Check the numbers in JCL's equations.

    Raises:
        UsageError: one is out of its range, or all weights are 0.
    """
    if not 0 <= blocks <= backbone.blocks:
        raise UsageError(f"blocks is {blocks}; this backbone's decoder has 0 to {backbone.blocks} to pre-train")
    for name, weight in weights.items():
        if weight < 0:
            raise UsageError(f"{name}_weight is {weight}; it can be 0 (off) or more")
    if not any(weights.values()):
        raise UsageError("global_weight, dense_weight and equivariance_weight are all 0; give one of them a weight")
    for name, value in {"temperature": temperature, "threshold": threshold}.items():
        if not value > 0:
            raise UsageError(f"{name} is {value}; it has to be above 0")
