"""What a network makes of each slice of a case in a store: its features, and how much it doubts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional as F

from jcl.backbones import Backbone, pad_to_multiple
from jcl.data.store import Store
from jcl.distributed.device import autocast
from jcl.inference.doubt import DoubtTally, doubt_map, doubt_of_case
from jcl.inference.predictor import PIXELS, NotFiniteError

__all__ = ["CaseLook", "Looker", "look_at_case", "vector_of"]

PARTS = 4
"""Of a scan, from its first slice to its last, whose features are compared each with the same part of others."""


@dataclass(frozen=True, kw_only=True)
class Looker:
    """Networks in evaluation mode on a device. The features are those of the first; scores are averaged.

    Attributes:
        context: neighbours on each side that a slice is seen with.
        structures: that the networks segment; 0 where they are only pre-trained, so that their scores mean nothing.
    """

    networks: Sequence[Backbone]
    context: int
    structures: int
    batch_size: int
    device: torch.device
    precision: torch.dtype


@dataclass(frozen=True)
class CaseLook:
    """Of a case.

    Attributes:
        features: of each slice, of length 1.
        slice_doubts: mean of `jcl.inference.doubt.doubt_map` over each slice; None of a pre-trained network.
        doubt: of the case, see `jcl.inference.doubt.doubt_of_case`; None also where no structure was found.
    """

    features: Float32[np.ndarray, "d f"]
    slice_doubts: list[float] | None
    doubt: float | None


def look_at_case(store: Store, case: int, looker: Looker, within: Callable[[float], None] | None = None) -> CaseLook:
    """Run the networks over the slices of a case, some at a time.

    Args:
        store: with slices as the networks take them.
        case: its number in the store.
        looker: the networks.
        within: called with the share that is done.

    Raises:
        DataError: a file of the case is damaged or missing.
        NotFiniteError: what a network computes is NaN or infinite.
    """
    slices, content = store.cases[case].slices, store.content(case)
    size = looker.batch_size
    if looker.device.type == "cpu":
        size = min(size, max(1, PIXELS // (store.size[0] * store.size[1])))
    inside = torch.zeros(1, 1, *store.size, device=looker.device)
    inside[:, :, *content] = 1
    tally = DoubtTally(looker.structures) if looker.structures else None
    found: list[Tensor] = []
    doubts: list[float] = []
    for start in range(0, slices, size):
        numbers = range(start, min(start + size, slices))
        images = torch.from_numpy(
            np.stack([store.image(case, number, context=looker.context) for number in numbers])
        ).to(looker.device)
        features, scores = _run(looker, images.contiguous(memory_format=torch.channels_last), inside)
        found.append(features.cpu())
        if tally is not None and scores is not None:
            for own in scores[:, :, *content]:
                entropy = doubt_map(own)
                tally.add(own, own.argmax(0), entropy)
                doubts.append(float(entropy.mean()))
        if within is not None:
            within(numbers.stop / slices)
    features = torch.cat(found).numpy()
    return CaseLook(features, doubts, doubt_of_case(tally.result())) if tally else CaseLook(features, None, None)


def vector_of(looks: Sequence[CaseLook]) -> Float32[np.ndarray, " v"]:
    """A patient's features: the mean over each of `PARTS` parts of a scan, and over the patient's cases."""
    parts = [F.adaptive_avg_pool1d(torch.from_numpy(look.features).T[None], PARTS).flatten() for look in looks]
    return torch.stack(parts).mean(0).numpy()


def _run(
    looker: Looker, images: Float32[Tensor, "b c h w"], inside: Float32[Tensor, "1 1 h w"]
) -> tuple[Float32[Tensor, "b f"], Float32[Tensor, "b k h w"] | None]:
    """Features of slices and, if they mean something, the mean scores of each class."""
    first, *others = looker.networks
    with torch.inference_mode(), autocast(looker.device, looker.precision):
        levels = first.encode(images)
        logits: list[Tensor] = []
        if looker.structures:
            # a network of one's own need not have `logits`
            own = first.logits(levels, images) if hasattr(first, "logits") else first(images)
            logits = [own, *(network(images) for network in others)]
    features = _pooled(levels[-1].float(), pad_to_multiple(inside, first.stride))
    if not all(bool(torch.isfinite(each).all()) for each in (features, *logits)):
        raise NotFiniteError(
            "the network's output is NaN or infinite; see that the scan has values as those of the training"
        )
    scores = torch.stack([each.float().softmax(1) for each in logits]).mean(0) if logits else None
    return features, scores


def _pooled(deepest: Float[Tensor, "b f y x"], inside: Float32[Tensor, "1 1 H W"]) -> Float32[Tensor, "b f"]:
    """Mean features of what is no padding, brought to length 1: how bright a network sees a slice does not count."""
    weights = F.adaptive_avg_pool2d(inside, (deepest.shape[2], deepest.shape[3]))
    return F.normalize((deepest * weights).sum((2, 3)) / weights.sum(), dim=1)
