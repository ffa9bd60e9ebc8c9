"""Whether scores are as large as they are right: expected calibration error (Guo et al., 2017), counted as it comes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from scipy import stats
from torch import Tensor

__all__ = ["BINS", "Calibration", "doubt_against_dice", "rank_correlation"]

BINS = 15

RELEVANT = 0.05
"""Voxels count where the structures' scores together reach this, besides those that are or were given a structure."""


class Calibration:
    """Counts of voxels by the score of the class that won.

        ece = sum over bins of (voxels in the bin / all voxels) * |share that is right - mean score|

    Most voxels of a scan are background beyond doubt, which would hide all others. So counted are those that are a
    structure, were segmented as one, or whose background score is below 1 - `RELEVANT`.
    """

    def __init__(self) -> None:
        self.voxels, self.right, self.confidence = (np.zeros(BINS) for _ in range(3))

    def add(
        self,
        scores: Float[Tensor, "k h w"],
        classes: Integer[Tensor, "h w"],
        truth: Integer[Tensor, "h w"],
        ignored: Bool[Tensor, "h w"] | None = None,
    ) -> None:
        """Add a slice, without the voxels that are ignored."""
        counted = (truth > 0) | (classes > 0) | (scores[0] <= 1 - RELEVANT)
        if ignored is not None:
            counted &= ~ignored
        highest = scores.amax(0)[counted].cpu().double().clamp_(0, 1)
        right = (classes == truth)[counted].cpu().double()
        bins = (highest * BINS).long().clamp_max_(BINS - 1)
        self.voxels += torch.bincount(bins, minlength=BINS).numpy()
        self.right += torch.bincount(bins, right, BINS).numpy()
        self.confidence += torch.bincount(bins, highest, BINS).numpy()

    def result(self) -> dict[str, Any]:
        """`ece` (None where nothing was counted), `voxels`, and `bins`.

        A bin has `low`, `high`, `voxels`, `confidence` (the mean score) and `accuracy` (the share that is right).
        """
        bins: list[dict[str, Any]] = []
        error, total = 0.0, float(self.voxels.sum())
        columns = (self.voxels.tolist(), self.right.tolist(), self.confidence.tolist())
        for number, (voxels, right, confidence) in enumerate(zip(*columns, strict=True)):
            means = (confidence / voxels, right / voxels) if voxels else (None, None)
            error += abs(right - confidence)
            edges = {"low": number / BINS, "high": (number + 1) / BINS}
            bins.append({**edges, "voxels": int(voxels), "confidence": means[0], "accuracy": means[1]})
        return {"ece": error / total if total else None, "voxels": int(total), "bins": bins}


def rank_correlation(pairs: Sequence[tuple[float | None, float | None]]) -> float | None:
    """Spearman's correlation of pairs that are complete; None for fewer than three, or where one side is constant."""
    known = np.array([pair for pair in pairs if None not in pair], dtype=float).reshape(-1, 2)
    if len(known) < 3 or (known == known[0]).all(axis=0).any():
        return None
    found: Any = stats.spearmanr(known[:, 0], known[:, 1])
    return float(found.statistic)


def doubt_against_dice(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Spearman's correlation over cases: `case` (mean Dice over the counted classes), and each of `classes`.

    Below 0 where what is in doubt is wrong more often.

    Args:
        entries: cases with `doubt`, `classes` and `structures`, as `jcl evaluate` writes them.
    """
    return {
        "case": rank_correlation([(entry["doubt"], _mean_dice(entry)) for entry in entries]),
        "classes": {
            name: rank_correlation([(e["structures"][name]["doubt"], e["classes"][name]["dice"]) for e in entries])
            for name in entries[0]["classes"]
        },
    }


def _mean_dice(entry: Mapping[str, Any]) -> float | None:
    counted = [scores["dice"] for scores in entry["classes"].values() if scores["dice"] is not None]
    return sum(counted) / len(counted) if counted else None
