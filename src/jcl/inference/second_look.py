"""A volume segmented with all that its scores say: the classes, how sure they are, and the scores themselves."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float16, UInt8
from torch import Tensor

from jcl.inference.doubt import Doubt, DoubtTally, doubt_map

__all__ = ["Looked", "look"]


@dataclass(frozen=True)
class Looked:
    """A segmented volume (turned).

    Attributes:
        classes: which won.
        doubts: of each structure, as they were segmented.
        doubt: of each voxel, see `jcl.inference.doubt.doubt_map`; if it was asked for.
        probabilities: mean score of each class, to three digits; if they were asked for.
    """

    classes: UInt8[np.ndarray, "d h w"]
    doubts: list[Doubt]
    doubt: Float16[np.ndarray, "d h w"] | None
    probabilities: Float16[np.ndarray, "k d h w"] | None


def look(
    slices: Iterator[Float[Tensor, "k h w"]],
    shape: tuple[int, int, int],
    classes: int,
    *,
    doubt: bool = False,
    probabilities: bool = False,
    within: Callable[[float], None] = lambda share: None,
) -> Looked:
    """Segment a volume by the scores of its slices, which are let go of one by one.

    Args:
        slices: see `jcl.inference.ensemble.slice_scores`.
        shape: slices, rows and columns of the volume.
        classes: how many there are, with the background.
        doubt: keep the map of doubt, two bytes a voxel.
        probabilities: keep all scores, two bytes a voxel and class.
        within: called now and then with the share that is done.
    """
    won = np.empty(shape, np.uint8)
    doubts = np.empty(shape, np.float16) if doubt else None
    kept = np.empty((classes, *shape), np.float16) if probabilities else None
    tally = DoubtTally(classes - 1)
    for number, scores in enumerate(slices):
        labels, entropy = scores.argmax(0), doubt_map(scores)
        tally.add(scores, labels, entropy)
        won[number] = labels.to(torch.uint8).cpu().numpy()
        if doubts is not None:
            doubts[number] = entropy.cpu().numpy()
        if kept is not None:
            kept[:, number] = scores.cpu().numpy()
        within((number + 1) / shape[0])
    return Looked(won, tally.result(), doubts, kept)
