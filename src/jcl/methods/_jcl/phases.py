"""What JCL trains together or one after the other, and how its two encoders are connected (table 7)."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from jcl.backbones import Backbone
from jcl.backbones._surgery import copy_submodules, frozen, reset_parameters
from jcl.errors import UsageError
from jcl.methods._jcl.ablations import Ablations
from jcl.ssl.momentum import make_teacher

__all__ = ["Phase", "auxiliary_encoder", "encode_both", "phases_of"]


@dataclass(frozen=True)
class Phase:
    """A part of the run."""

    losses: tuple[str, ...]
    """Those that are on and train what is trained."""
    decodes: bool
    """Whether the decoder runs."""
    shrinks: bool = True
    """Whether the dominant branch's views are shrunk."""
    encoder_trained: bool = True
    """Else it is frozen, and both branches share it."""
    one_projector: bool = False
    """The auxiliary image projector serves both branches, as in PCL."""


def phases_of(ablations: Ablations, weighed: Collection[str], blocks: int) -> tuple[Phase, ...]:
    """The parts of a run.

    Args:
        ablations: of which `stages` and `global_source` matter here.
        weighed: losses with a weight.
        blocks: decoder blocks that are to be pre-trained.

    Raises:
        UsageError: one of two phases would have nothing to train.
    """
    through_decoder = {"global", "dense"} if ablations.global_source == "decoder" else {"dense"}
    reaching = tuple(name for name in weighed if name in through_decoder)
    decodes = blocks > 0 and bool(reaching)
    if ablations.stages == "one":
        return (Phase(tuple(weighed), decodes),)
    if not ("global" in weighed and decodes):
        raise UsageError(
            f"stages is {ablations.stages!r}, but one of them would have nothing to train; give global_weight and "
            "blocks more than 0, and dense_weight too where global_source is 'encoder'"
        )
    return (
        Phase(("global",), decodes=False, shrinks=ablations.stages == "two", one_projector=True),
        Phase(reaching, decodes=True, encoder_trained=False),
    )


def auxiliary_encoder(backbone: Backbone, connection: str) -> Backbone | None:
    """An encoder of the auxiliary branch's own, or None where it is the dominant one's."""
    if connection == "shared":
        return None
    encoder = copy_submodules(backbone, backbone.submodule_names(0))
    if connection == "ema":
        return make_teacher(encoder)
    reset_parameters(encoder)
    return encoder


def encode_both(
    backbone: Backbone,
    auxiliary: Backbone | None,
    full: Tensor,
    small: Tensor,
    *,
    rows: int | None = None,
    freeze: bool = False,
) -> tuple[Tensor, list[Tensor]]:
    """The auxiliary branch's bottleneck, and the features of the dominant one.

    Views of one size go through a shared encoder together, so that its batch statistics are those of both; with `rows`
    each view, of so many rows, by itself, in the order of the authors' program. An encoder that is frozen is shared.
    """
    if freeze:
        with frozen(backbone, backbone.submodule_names(0)):
            return encode_both(backbone, None, full, small)
    other = backbone if auxiliary is None else auxiliary
    if rows is not None:
        pairs = zip(full.split(rows), small.split(rows), strict=True)
        found = [(other.encode(first)[-1], backbone.encode(second)) for first, second in pairs]
        levels = zip(*(features for _, features in found), strict=True)
        return torch.cat([bottleneck for bottleneck, _ in found]), [torch.cat(level) for level in levels]
    if auxiliary is not None or full.shape != small.shape:
        return other.encode(full)[-1], backbone.encode(small)
    features = backbone.encode(torch.cat([full, small]))
    return features[-1][: len(full)], [level[len(full) :] for level in features]
