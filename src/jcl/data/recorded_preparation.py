"""How scans are prepared, as the file of a model says: checked before any scan is brought to it."""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast

from jcl import schema
from jcl.data.block_plan import check_block
from jcl.data.context import span_of
from jcl.data.imagefile.budget import scan_memory
from jcl.data.intensities import Window, check_window
from jcl.errors import DataError, UsageError
from jcl.limits import STAGES
from jcl.parallel.machine import size

__all__ = ["check_preparation"]

BYTES = 16
"""That a value of a padded slice takes at the least: itself, and the network's first features of it."""


@dataclass(frozen=True, kw_only=True)
class _Values:
    """What segmenting a scan needs of a preparation (see `jcl.data.preparation.make_preparation`)."""

    channels: int
    spacing: float | None
    size: int | None
    normalisation: Literal["minmax", "zscore"]
    clip: tuple[float, float]
    classes: tuple[str, ...]
    class_values: tuple[int, ...]
    padded: tuple[int, int]
    fit: bool = False
    grey: bool = False
    spacing_through: float | None = None
    context: int = 0
    block: tuple[int, int, int] | None = None
    window: Window | None = None


def check_preparation(recorded: object, backbone: object, file: Path) -> None:
    """See that scans can be prepared as a file says, whoever wrote it.

    Args:
        recorded: as the file has it, under `recipe`.
        backbone: its settings of the network.
        file: for messages.

    Raises:
        DataError: a value is missing or cannot be meant, slices of that size do not go into memory, or the network
            takes other channels or has other classes.
    """
    if not isinstance(recorded, dict):
        raise DataError(f"{file}: it does not say how scans are prepared (`recipe`); restore it")
    table = {key: value for key, value in cast("dict[str, Any]", recorded).items() if key in _KEYS}
    try:
        values = schema.build(_Values, table, f"{file}: recipe")
    except UsageError as error:
        raise DataError(f"{error}; restore it") from error
    if wrong := _wrong(values):
        raise DataError(f"{file}: recipe: {wrong}; restore it")
    network = cast("dict[str, Any]", backbone) if isinstance(backbone, dict) else {}
    channels = values.channels * span_of(values.context)
    for key, count in {"in_channels": channels, "classes": len(values.classes) + 1}.items():
        if network.get(key, count) != count:
            raise DataError(f"{file}: {key} of its network is {network[key]!r:.40}, by its recipe {count}; restore it")
    needed, allowed = BYTES * channels * math.prod(values.padded), scan_memory()
    if values.block is not None and allowed is not None and BYTES * channels * math.prod(values.block) > allowed:
        raise DataError(f"{file}: recipe: block is {list(values.block)}, too large for this memory; restore it")
    if allowed is not None and needed > allowed:
        rows, columns = values.padded
        raise DataError(
            f"{file}: its slices of {rows} x {columns} pixels need {size(needed)} of memory each, "
            f"more than the {size(allowed)} that one scan may take; restore it"
        )


def _is_block(block: tuple[int, int, int]) -> bool:
    try:
        return check_block(block) == block
    except UsageError:
        return False


def _is_window(window: Window | None) -> bool:
    try:
        check_window(window or (0.0, 1.0))
    except ValueError:
        return False
    return True


_KEYS = frozenset(field.name for field in fields(_Values))


def _wrong(values: _Values) -> str | None:
    """The first value that cannot be meant, and what would be one."""
    low, high = values.clip
    checks = {
        "channels": (values.channels, values.channels >= 1 and not (values.grey and values.channels > 1), "at least 1"),
        "spacing": (values.spacing, values.spacing is None or 0 < values.spacing < math.inf, "in mm, above 0"),
        "spacing_through": (
            values.spacing_through,
            values.spacing_through is None or 0 < values.spacing_through < math.inf,
            "in mm, above 0",
        ),
        "size": (values.size, (values.size or 1) >= 1 and not (values.fit and values.size is None), "at least 1"),
        "clip": (values.clip, 0 <= low < high <= 100, "two percentiles, the lower one first"),
        "window": (values.window, _is_window(values.window), "two values, the lower one first"),
        "context": (values.context, STAGES["context"].allows(values.context), str(STAGES["context"])),
        "block": (values.block, values.block is None or _is_block(values.block), "as --block takes it"),
        "padded": (values.padded, min(values.padded) >= 1, "at least 1 pixel a side"),
        "classes": (values.classes, 1 <= len(values.classes) <= 254, "1 to 254 names"),
        "class_values": (
            values.class_values,
            len(values.class_values) == len(values.classes) and all(abs(v) < 2**53 for v in values.class_values),
            "a whole number for each of the classes",
        ),
    }
    return next((f"{key} is {found!r:.60}, {what}" for key, (found, fine, what) in checks.items() if not fine), None)
