"""The prepared store, written: a case at a time, and the manifest at last (see `jcl.data.store` for what is where)."""

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from jcl.data.manifest import CaseRecord, SkippedCase, as_entry, as_record, read_sealed, write_sealed
from jcl.data.slicefile import write_slices
from jcl.data.store import CASES, IMAGES, LABELS, MANIFEST, TAKEN, damage_of
from jcl.errors import DataError
from jcl.files import sync_folder, write_error

__all__ = ["read_case", "write_case", "write_manifest"]

RECORD = "case.json"

CODES = 4095
"""Largest code: 12 bits hold what scanners measure, and pack much better than 16."""

SYNC_THREADS = 8
"""Files synced at a time: the disk writes those that wait for it together."""


def write_case(
    store: Path,
    image: Float32[np.ndarray, "c d h w"],
    labels: UInt8[np.ndarray, "d h w"] | None,
    *,
    case: str,
    patient: str,
    spacing: tuple[float, float, float],
    source: dict[str, list[list[str]]],
    classes: int,
    notes: Sequence[str] = (),
    taken: tuple[int, float] | None = None,
    taken_labels: UInt8[np.ndarray, "s h w"] | None = None,
    direction: tuple[float, float, float] | None = None,
    modality: str = "",
    outside: tuple[float, float] | None = None,
) -> CaseRecord:
    """Write a case: to a temporary folder first, which gets its name when all of it is written.

    With `taken` (see `CaseRecord`, also for what follows) `taken_labels` are those of the slices of the source.

    It is not yet synced to the disk: `write_manifest` does so for all cases, before the store counts as complete. After
    a power cut before that, `read_case` finds what was lost.

    Raises:
        WriteError: the disk is full, or the folder cannot be written.
    """
    final = store / CASES / case
    # Short, whatever the case's name, and no case's: those never begin with a dot.
    temporary = store / CASES / f".{hashlib.sha256(os.fsencode(case)).hexdigest()[:16]}.{os.getpid()}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        scale, offset, digests = _write_slices(temporary, image, labels)
        if taken_labels is not None:
            digests[TAKEN] = write_slices(temporary / TAKEN, taken_labels[:, None])
        counts = (
            () if labels is None else np.bincount(labels[labels > 0], minlength=classes + 1)[1 : classes + 1].tolist()
        )
        record = CaseRecord(
            case=case, patient=patient, slices=image.shape[1], shape=(image.shape[2], image.shape[3]), spacing=spacing,
            labelled=labels is not None, status="ready", source=source, digests=digests,
            scale=scale, offset=offset, voxels=tuple(counts), notes=tuple(notes), taken=taken or (),
            direction=direction or (), modality=modality, outside=outside or (),
        )  # fmt: skip
        write_sealed(temporary / RECORD, as_entry(record), sync=False)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
    except OSError as error:
        raise write_error(final, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return record


def _write_slices(
    folder: Path, image: Float32[np.ndarray, "c d h w"], labels: UInt8[np.ndarray, "d h w"] | None
) -> tuple[tuple[float, ...], tuple[float, ...], dict[str, str]]:
    """Write the slices of a case; returns scale and offset of each channel, and the digest of each file."""
    scale, offset, codes = _encode(image)
    digests = {IMAGES: write_slices(folder / IMAGES, codes)}
    if labels is not None:
        digests[LABELS] = write_slices(folder / LABELS, labels[:, None])
    return scale, offset, digests


def _encode(
    image: Float32[np.ndarray, "c d h w"],
) -> tuple[tuple[float, ...], tuple[float, ...], UInt16[np.ndarray, "d c h w"]]:
    """Scale and offset of each channel, and the 12-bit codes."""
    scales: list[float] = []
    offsets: list[float] = []
    codes = np.empty((image.shape[1], image.shape[0], *image.shape[2:]), np.uint16)
    for number, channel in enumerate(image):
        low, high = float(channel.min()), float(channel.max())
        scale = (high - low) / CODES or 1.0
        for pixels, out in zip(channel, codes[:, number], strict=True):
            scaled = pixels - np.float32(low)
            scaled /= np.float32(scale)
            np.rint(scaled, out=scaled)
            out[:] = scaled.clip(0, CODES, out=scaled)
        scales.append(scale)
        offsets.append(low)
    return tuple(scales), tuple(offsets), codes


def read_case(folder: Path) -> CaseRecord | None:
    """The record of a case that is whole and undamaged, else None."""
    try:
        record = as_record(read_sealed(folder / RECORD))
    except (DataError, KeyError, TypeError):
        return None
    return None if record.case != folder.name or damage_of(folder, record) else record


def write_manifest(
    store: Path, preparation: Mapping[str, Any], cases: Sequence[CaseRecord], skipped: Sequence[SkippedCase]
) -> None:
    """Sync the cases to the disk and write store.json, which makes the store complete.

    Args:
        preparation: has to have its `padded` size.

    Raises:
        WriteError: the disk is full, or a file cannot be written; the case it is of is removed.
    """
    with ThreadPoolExecutor(SYNC_THREADS) as pool:
        for _ in pool.map(partial(_sync_case, store), cases):
            pass
    sync_folder(store / CASES)
    entries = {"cases": [as_entry(record) for record in cases], "refused": [vars(entry) for entry in skipped]}
    write_sealed(store / MANIFEST, {"recipe": dict(preparation), **entries})


def _sync_case(store: Path, record: CaseRecord) -> None:
    folder = store / CASES / record.case
    try:
        for name in (*record.digests, RECORD):
            with (folder / name).open("rb+") as file:
                os.fsync(file.fileno())
        sync_folder(folder)
    except OSError as error:
        # What the system still has in memory would pass for good when the command is run again.
        shutil.rmtree(folder, ignore_errors=True)
        raise write_error(folder, error) from error
