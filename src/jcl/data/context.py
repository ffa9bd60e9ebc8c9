"""2.5-D: which neighbours a slice is seen with, and in which channels they are.

A slice with context K is seen together with the K slices before and the K slices behind it, all in the channels of one
image: (2 K + 1) times as many as the slice has itself, those of the first neighbour before those of the next, so that
its own are in the middle. Where a volume ends, its last slice stands for those that are not there. With K = 0 a slice
is seen by itself.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float32

from jcl.errors import DataError
from jcl.limits import STAGES

__all__ = [
    "channel_names",
    "context_of",
    "neighbours",
    "recorded_context",
    "span_of",
    "stack_neighbours",
    "taken_context",
    "with_context",
]

KEY = "context"
"""Of a preparation, where slices are seen with neighbours."""


def neighbours(number: int, slices: int, context: int) -> list[int]:
    """Numbers of the slices that one of a volume is seen with, itself in the middle.

    Args:
        number: of the slice in its volume.
        slices: of the volume.
        context: neighbours on each side; beyond an end of the volume its last slice is repeated.
    """
    return [min(max(each, 0), slices - 1) for each in range(number - context, number + context + 1)]


def stack_neighbours(
    part: Float32[np.ndarray, "c s h w"], first: int, chosen: range, slices: int, context: int
) -> Float32[np.ndarray, "k n h w"]:
    """Slices of a volume with their neighbours as channels, k = (2 K + 1) c.

    Args:
        part: consecutive slices of the volume, among them the chosen ones and all their neighbours.
        first: number in the volume of the first of them.
        chosen: numbers of the slices that are wanted.
        slices: of the volume.
        context: neighbours on each side.
    """
    numbers = np.array([neighbours(number, slices, context) for number in chosen]) - first
    return np.concatenate([part[:, each] for each in numbers.T])


def span_of(context: int) -> int:
    """Slices that are seen at a time: 2 K + 1."""
    return 2 * context + 1


def context_of(preparation: Mapping[str, Any]) -> int:
    """Neighbours on each side that a network takes; of a store's own preparation none."""
    return int(preparation.get(KEY) or 0)


def recorded_context(info: object, file: Path | str) -> int:
    """Neighbours on each side that a training saw, by its `run.json`; those of before there were any say nothing of it.

    Args:
        info: what the file has.
        file: for messages.

    Raises:
        DataError: a number that cannot be meant.
    """
    settings: object = cast("dict[str, Any]", info).get("settings") if isinstance(info, dict) else None
    found: object = cast("dict[str, Any]", settings).get(KEY) if isinstance(settings, dict) else None
    if found is not None and not (type(found) is int and STAGES[KEY].allows(found)):
        raise DataError(f"{file}: context is {found!r:.40}; {STAGES[KEY]}; restore it")
    return found or 0


def taken_context(info: Mapping[str, Any], file: Path | str) -> int:
    """Neighbours on each side that the network of a run takes, be it a fine-tuning or a pre-training.

    Args:
        info: its `run.json`.
        file: for messages.

    Raises:
        DataError: a number that cannot be meant.
    """
    return context_of(info["recipe"]) if "recipe" in info else recorded_context(info, file)


def with_context(preparation: Mapping[str, Any], context: int) -> dict[str, Any]:
    """The preparation for a network that takes so many neighbours; unchanged for one that takes none."""
    return {**preparation, KEY: context} if context else dict(preparation)


def channel_names(channels: int, context: int) -> list[str]:
    """What is in each channel of an image, for people: `slice -1`, `slice`, `slice +1`."""
    names = [f"slice {offset:+d}" if offset else "slice" for offset in range(-context, context + 1)]
    return names if channels == 1 else [f"{name}, channel {number}" for name in names for number in range(channels)]
