"""Counting what a store holds: each byte of a case is read once, slice by slice, and checked on the way."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from jcl.checks.duplicates import Thumbnail
from jcl.data.manifest import IGNORE, REPAIR_HINT
from jcl.data.store import CASES, CaseRecord, Store
from jcl.errors import DataError

__all__ = ["CaseCensus", "ChannelStatistics", "count_case", "count_labels", "looks_sparse"]

ALONE = 5
"""Slices from which on a volume that has structures in one slice alone looks as if the others had not been labelled."""


@dataclass(frozen=True)
class ChannelStatistics:
    """Intensities of a channel over all pixels of a case, in the store's units.

    Attributes:
        at_lowest: share of the pixels that have the lowest value: 0 in a store scaled to [0, 1], where it is
            mostly the air around the body.
    """

    mean: float
    deviation: float
    lowest: float
    highest: float
    at_lowest: float


@dataclass(frozen=True)
class CaseCensus:
    """What was counted in one case.

    Attributes:
        record: what the manifest says.
        damage: one line for each file that is damaged; what it would say is then missing below.
        channels: intensities, one per channel.
        voxels, slices: of each class, the background left out; empty without labels.
        unknown: voxels of values that are not one of the classes.
        ignored, ignored_slices: voxels that nobody has decided on, and the slices that have some.
        structures: numbers of the slices with a voxel of any class.
        shown: the slice with the most labelled pixels, else the middle one; None if nothing was read.
        fingerprint: digest of the decoded slices, equal for equal images only.
        thumbnail: of the first channel, see `duplicates`.
    """

    record: CaseRecord
    damage: tuple[str, ...] = ()
    channels: tuple[ChannelStatistics, ...] = ()
    voxels: tuple[int, ...] = ()
    slices: tuple[int, ...] = ()
    unknown: int = 0
    ignored: int = 0
    ignored_slices: int = 0
    structures: tuple[int, ...] = ()
    shown: int | None = None
    fingerprint: bytes | None = None
    thumbnail: Float32[np.ndarray, "d h w"] | None = None

    @property
    def millilitres(self) -> tuple[float, ...]:
        """Volume of each class."""
        return tuple(count * float(np.prod(self.record.spacing)) / 1000 for count in self.voxels)


def looks_sparse(structures: Sequence[int], slices: int) -> bool:
    """Whether a volume of so many slices looks as if only some had been labelled: those with structures stand alone.

    Organs go on from slice to slice; labels of every second slice, or of one alone, do not.

    Examples:
        >>> looks_sparse([2, 5, 8], 12), looks_sparse([2, 3, 4], 12), looks_sparse([6], 12)
        (True, False, True)
    """
    if len(structures) < 2:
        return len(structures) == 1 and slices >= ALONE
    return all(second - first > 1 for first, second in pairwise(structures))


def count_case(store: Store, number: int) -> CaseCensus:
    """Read all of a case. Damage is reported in the result, not raised; memory is that of a slice."""
    record = store.cases[number]
    folder = store.path / CASES / record.case
    if not folder.is_dir():
        return CaseCensus(record, damage=(f"{folder}: missing; {REPAIR_HINT}",))
    damage: list[str] = []
    counted: dict[str, Any] = {"shown": record.slices // 2}
    of_labels = (count_labels, _read_truth) if record.taken else (count_labels,)
    for count in (_count_images, *of_labels) if record.labelled else (_count_images,):
        try:
            counted.update(count(store, number))
        except DataError as error:
            damage.append(str(error))
    return CaseCensus(record, damage=tuple(damage), **counted)


def _count_images(store: Store, number: int) -> dict[str, Any]:
    record, content = store.cases[number], store.content(number)
    thumbnail = Thumbnail(record.slices, record.shape)
    fingerprint = hashlib.blake2b(repr((record.slices, record.shape)).encode(), digest_size=16)
    lowest = np.array(record.offset, np.float32)  # what code 0 stands for
    sums = np.zeros((3, store.channels))
    extremes = np.array([[np.inf] * store.channels, [-np.inf] * store.channels])
    for at in range(record.slices):
        pixels = np.ascontiguousarray(store.image(number, at)[:, *content])
        fingerprint.update(pixels.data)
        thumbnail.add(at, pixels[0])
        sums += _sums(pixels, lowest)
        extremes[0] = np.minimum(extremes[0], pixels.min(axis=(1, 2)))
        extremes[1] = np.maximum(extremes[1], pixels.max(axis=(1, 2)))
    pixels_read = record.slices * record.shape[0] * record.shape[1]
    mean, square, at_lowest = sums / pixels_read
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    table = np.stack([mean + lowest, deviation, *extremes, at_lowest], axis=1)
    return {
        "channels": tuple(ChannelStatistics(*row) for row in table.tolist()),
        "fingerprint": fingerprint.digest(),
        "thumbnail": thumbnail.normalised(),
    }


def _read_truth(store: Store, number: int) -> dict[str, Any]:
    """Read the labels on the slices of the source, of which nothing is counted.

    Raises:
        DataError: they are damaged.
    """
    for at in range(store.cases[number].own[0]):
        store.truth(number, at)
    return {}


def _sums(pixels: Float32[np.ndarray, "c h w"], lowest: Float32[np.ndarray, " c"]) -> Float64[np.ndarray, "3 c"]:
    """Sums over a slice, of values and squares above the lowest one, and how many pixels have it."""
    above = (pixels - lowest[:, None, None]).astype(np.float64).reshape(len(pixels), -1)
    return np.stack([above.sum(1), np.einsum("cp,cp->c", above, above), (above == 0).sum(1)])


def count_labels(store: Store, number: int) -> dict[str, Any]:
    """What `CaseCensus` has of a case's labels, by the names that it has there.

    Raises:
        DataError: they are damaged.
    """
    record, content, classes = store.cases[number], store.content(number), len(store.class_names)
    counts = np.zeros((record.slices, 256), np.int64)
    for at in range(record.slices):
        counts[at] = np.bincount(store.label(number, at)[content].ravel(), minlength=256)
    ignored = counts[:, IGNORE].copy() if store.ignores else np.zeros(record.slices, np.int64)
    foreground = counts[:, 1 : classes + 1]
    area = foreground.sum(axis=1)
    return {
        "voxels": tuple(foreground.sum(axis=0).tolist()),
        "slices": tuple((foreground > 0).sum(axis=0).tolist()),
        "unknown": int(counts[:, classes + 1 :].sum() - ignored.sum()),
        "ignored": int(ignored.sum()),
        "ignored_slices": int((ignored > 0).sum()),
        "structures": tuple(np.flatnonzero(area).tolist()),
        "shown": int(area.argmax()) if area.any() else record.slices // 2,
    }
