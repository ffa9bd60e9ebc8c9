"""Scans unlike those that a network learned from, which nobody would see by the segmentation alone."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jcl.data.block_plan import block_of
from jcl.data.context import context_of
from jcl.data.intensities import Window, bare_sides, outside, window_of
from jcl.data.manifest import CaseRecord
from jcl.data.modality import modality_of
from jcl.data.notes import note
from jcl.data.slice_direction import TURNED, angle, plane
from jcl.data.sources import Source
from jcl.data.volumes import Volume
from jcl.errors import DataError
from jcl.training.seen_scans import SEEN_MM, SEEN_MODALITIES, SEEN_OUTSIDE, SEEN_PLANE

__all__ = ["FACTOR", "MORE", "note_unlike", "traits_of_case", "unlike"]

FACTOR = 1.5
"""Times as large, or as small, as any that was trained on: augmentation shows a network 1.4 at most."""

MORE = 20.0
"""Degrees that a scan has to be turned by, too, beyond all slices trained on: what hearts of patients differ by."""


@dataclass(frozen=True)
class Traits:
    """What is told of a scan.

    Attributes:
        spacing: through-plane, row and column spacing in mm.
        direction: at right angles to its slices, in LPS; empty where nothing states one.
        modality: as DICOM calls it, or empty.
        outside: the shares of its values below and above a window.
    """

    spacing: Sequence[float]
    direction: Sequence[float]
    modality: str
    outside: Callable[[Window], Sequence[float]]


def traits_of(source: Source, volume: Volume) -> Traits:
    """Of a scan that was read, its intensities as they are in its files."""

    def shares(window: Window) -> Sequence[float]:
        try:
            return outside(volume.array, window)
        except DataError as error:
            raise DataError(f"{source}: {error}") from error

    geometry = volume.geometry
    return Traits(geometry.turned_spacing, geometry.slice_direction or (), modality_of(source), shares)


def traits_of_case(record: CaseRecord) -> Traits:
    """Of a case of a store that is prepared as the runs' was."""
    shares = record.outside or (1.0, 1.0)  # of a case without a window nothing is missed on either side
    return Traits(record.spacing, record.direction, record.modality, lambda _: shares)


def note_unlike(source: Source, volume: Volume, infos: Sequence[Mapping[str, Any]]) -> None:
    """Note in what a scan is unlike those that the runs of `infos` learned from; `source` is what the notes name.

    Raises:
        DataError: nothing of it lies in the window of a run.
    """
    for line in unlike(traits_of(source, volume), infos):
        note(f"{source}: {line}")


def unlike(traits: Traits, infos: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines that say that a scan's pixels, or slices where several are seen at a time, are far from those trained on.

    Or that its slices lie in another plane, that it is of another modality, or that its values have another unit.

    Args:
        traits: of the scan.
        infos: what is recorded of each run that segments it; of each point the first that has seen nothing alike
            speaks. Of what earlier versions did not record nothing is said.
    """
    found: list[str] = []
    for says in (_on_spacing, _on_plane, _on_modality, _on_window):
        lines = (line for info in infos if (line := says(traits, info)) is not None)
        if (line := next(lines, None)) is not None:
            found.append(line)
    return found


def _on_spacing(traits: Traits, info: Mapping[str, Any]) -> str | None:
    through, row, column = traits.spacing
    several = bool(context_of(info["recipe"])) or block_of(info["recipe"]) is not None
    looks = [
        ("pixels", math.sqrt(row * column), "--spacing"),
        *([("slices", through, "--spacing-through")] if several else []),
    ]
    for what, mm, setting in looks:
        if (seen := _seen(info, what)) and not seen[0] / FACTOR <= mm <= seen[1] * FACTOR:
            low, high = (f"{each:.3g}" for each in seen)
            theirs = low if low == high else f"{low} to {high}"
            return (
                f"its {what} are {mm:.3g} mm apart, those trained on {theirs} mm, so that a structure "
                f"has another size than any learned; resample it, or train on a store prepared with {setting}"
            )
    return None


def _on_plane(traits: Traits, info: Mapping[str, Any]) -> str | None:
    own, seen = traits.direction, _seen_plane(info)
    if not own or seen is None:
        return None
    usual, within = seen
    apart = angle(own, usual)
    if apart <= max(TURNED, within + MORE):
        return None
    mine, theirs = plane(own), plane(usual)
    both = f"{mine}, those trained on {theirs}" if mine != theirs else f"{mine}, as are those trained on"
    return (
        f"its slices are {both} ({apart:.0f} degrees apart), and another plane shows structures in another form; "
        "take the scan of that plane, or train on some of this one"
    )


def _on_modality(traits: Traits, info: Mapping[str, Any]) -> str | None:
    match info.get(SEEN_MODALITIES):
        case [str(), *_] as seen if traits.modality and traits.modality not in seen:
            theirs = " and ".join(map(str, seen))
            return (
                f"it is {traits.modality}, those trained on {theirs}: the same structure has other intensities there; "
                "take a scan of that kind, or train on some of this one"
            )
        case _:
            return None


def _on_window(traits: Traits, info: Mapping[str, Any]) -> str | None:
    window = window_of(info["recipe"])
    if window is None:
        return None
    own = traits.outside(window)
    match info.get(SEEN_OUTSIDE):
        case {"below": int() | float() as below, "above": int() | float() as above} if sides := bare_sides(
            own, (below, above)
        ):
            return (
                f"hardly a value lies {' or '.join(sides)} the window {window[0]:g} to {window[1]:g}, where each scan "
                f"trained on has at least {100 * below:.0f} % below and {100 * above:.0f} % above: look at the unit of "
                "its values"
            )
        case _:
            return None


def _seen(info: Mapping[str, Any], what: str) -> tuple[float, float] | None:
    """Lowest and highest distance in the training, or None where the record does not say it in numbers."""
    match info.get(SEEN_MM):
        case {"pixels": [int() | float() as low, int() | float() as high]} if what == "pixels":
            return float(low), float(high)
        case {"slices": [int() | float() as low, int() | float() as high]} if what == "slices":
            return float(low), float(high)
        case _:
            return None


def _seen_plane(info: Mapping[str, Any]) -> tuple[tuple[float, float, float], float] | None:
    """Direction and degrees around it in the training, or None where the record does not say it in numbers."""
    match info.get(SEEN_PLANE):
        case {
            "direction": [int() | float() as x, int() | float() as y, int() | float() as z],
            "within": int() | float() as within,
        }:
            return (float(x), float(y), float(z)), float(within)
        case _:
            return None
