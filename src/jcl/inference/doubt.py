"""How sure a segmentation is: the entropy of its scores, and the Dice that they let expect."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Doubt", "DoubtTally", "doubt_map", "doubt_of_case", "of_structures"]

FLOOR = 0.1
"""Scores below it are left out of the expected Dice: over a whole volume the least would outweigh all others."""


def doubt_map(scores: Float[Tensor, "k h w"]) -> Float[Tensor, "h w"]:
    """Entropy of the scores of each voxel, as a share of the largest there can be: 0 is sure, 1 knows nothing.

    doubt = -sum_k p_k log(p_k) / log(number of classes)
    """
    return torch.special.entr(scores).sum(0).div_(math.log(len(scores))).clamp_(0, 1)


@dataclass(frozen=True)
class Doubt:
    """Of one structure of a volume.

    Attributes:
        voxels: how many it was given.
        doubt: mean of `doubt_map` over these voxels and all that touch one; None where there is none.
        expected_dice: 2 sum(p over its voxels) / (sum(p) + voxels), scores below `FLOOR` left out; None as `doubt`.
    """

    voxels: int
    doubt: float | None
    expected_dice: float | None


def doubt_of_case(doubts: list[Doubt]) -> float | None:
    """Mean over the structures that were found; None where none was."""
    known = [each.doubt for each in doubts if each.doubt is not None]
    return math.fsum(known) / len(known) if known else None


def of_structures(doubts: list[Doubt], names: Sequence[str]) -> dict[str, Any]:
    """As files have it: `doubt` of the case, and for each of `structures` its `doubt` and `expected_dice`."""
    structures = {
        name: {"doubt": _rounded(each.doubt), "expected_dice": _rounded(each.expected_dice)}
        for name, each in zip(names, doubts, strict=True)
    }
    return {"doubt": _rounded(doubt_of_case(doubts)), "structures": structures}


def _rounded(value: float | None) -> float | None:
    """To six digits, which is more than rounding of the network leaves."""
    return None if value is None else round(value, 6)


class DoubtTally:
    """Doubt of each structure of a volume, from one slice after the other; holds three slices at most.

    Args:
        structures: how many there are, the background left out.
    """

    def __init__(self, structures: int) -> None:
        self.structures = structures
        self.voxels, self.near, self.entropy, self.inside, self.mass = (
            torch.zeros(structures, dtype=torch.float64) for _ in range(5)
        )
        self._held: list[tuple[Float[Tensor, "h w"], Bool[Tensor, "s h w"]]] = []

    def add(
        self,
        scores: Float[Tensor, "k h w"],
        classes: Integer[Tensor, "h w"],
        entropy: Float[Tensor, "h w"] | None = None,
    ) -> None:
        """Add the next slice.

        Args:
            scores: mean scores.
            classes: which won.
            entropy: `doubt_map` of the scores, where it is known.
        """
        numbers = torch.arange(1, self.structures + 1, device=classes.device)
        masks = classes[None] == numbers[:, None, None]
        own = scores[1:]
        own = torch.where(own >= FLOOR, own, torch.zeros_like(own))
        self.voxels += _sums(masks)
        self.inside += _sums(own * masks)
        self.mass += _sums(own)
        touched = F.max_pool2d(masks[None].float(), 3, 1, 1)[0] > 0
        self._held.append((doubt_map(scores) if entropy is None else entropy, touched))
        if len(self._held) > 1:
            self._count(self._held[-2][0])
        self._held = self._held[-2:]

    def _count(self, entropy: Float[Tensor, "h w"]) -> None:
        """Count a slice, whose neighbours are held beside it."""
        near = torch.stack([touched for _, touched in self._held]).any(0)
        self.near += _sums(near)
        self.entropy += _sums(entropy * near)

    def result(self) -> list[Doubt]:
        """Of each structure; no slice may be added afterwards."""
        if self._held:
            self._count(self._held[-1][0])
            self._held = []
        found: list[Doubt] = []
        columns = (self.voxels, self.near, self.entropy, self.inside, self.mass)
        for voxels, near, entropy, inside, mass in zip(*(column.tolist() for column in columns), strict=True):
            if voxels:
                found.append(Doubt(int(voxels), entropy / near, 2 * inside / (mass + voxels)))
            else:
                found.append(Doubt(0, None, None))
        return found


def _sums(values: Tensor) -> Float[Tensor, " s"]:
    """Sum of each structure."""
    return values.sum((1, 2), dtype=torch.float32 if values.device.type == "mps" else torch.float64).cpu().double()
