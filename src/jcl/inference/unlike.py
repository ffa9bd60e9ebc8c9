"""Scans unlike those that a network learned from, which nobody would see by the segmentation alone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jcl.data.block_plan import block_of
from jcl.data.context import context_of
from jcl.data.geometry import Geometry
from jcl.data.notes import note
from jcl.data.sources import Source
from jcl.training.seen_spacing import SEEN_MM

__all__ = ["FACTOR", "note_unlike"]

FACTOR = 1.5
"""Times as large, or as small, as any that was trained on: augmentation shows a network 1.4 at most."""


def note_unlike(source: Source, geometry: Geometry, infos: Sequence[Mapping[str, Any]]) -> None:
    """Note that a scan's pixels, or slices where several are seen at a time, are far from those of the training.

    Args:
        source: what the note names.
        geometry: of the scan.
        infos: what is recorded of each run that segments it; the first that has seen nothing alike speaks. Versions
            before 0.2 recorded no spacings, so that nothing is noted.
    """
    through, row, column = geometry.turned_spacing
    for info in infos:
        several = bool(context_of(info["recipe"])) or block_of(info["recipe"]) is not None
        looks = [
            ("pixels", math.sqrt(row * column), "--spacing"),
            *([("slices", through, "--spacing-through")] if several else []),
        ]
        for what, mm, setting in looks:
            if (seen := _seen(info, what)) and not seen[0] / FACTOR <= mm <= seen[1] * FACTOR:
                low, high = (f"{each:.3g}" for each in seen)
                theirs = low if low == high else f"{low} to {high}"
                note(
                    f"{source}: its {what} are {mm:.3g} mm apart, those trained on {theirs} mm, so that a structure "
                    f"has another size than any learned; resample it, or train on a store prepared with {setting}"
                )
                return


def _seen(info: Mapping[str, Any], what: str) -> tuple[float, float] | None:
    """Lowest and highest distance in the training, or None where the record does not say it in numbers."""
    match info.get(SEEN_MM):
        case {"pixels": [int() | float() as low, int() | float() as high]} if what == "pixels":
            return float(low), float(high)
        case {"slices": [int() | float() as low, int() | float() as high]} if what == "slices":
            return float(low), float(high)
        case _:
            return None
