"""What a store's manifest says of each case, and the JSON files that hold it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from jcl.errors import DataError
from jcl.files import read_digested_json, write_digested_json

__all__ = [
    "FORMAT",
    "IGNORE",
    "REPAIR_HINT",
    "CaseRecord",
    "SkippedCase",
    "as_entry",
    "as_record",
    "read_sealed",
    "write_sealed",
]

FORMAT = 1
"""Version of a store's layout; raised when an older program could misread it."""


IGNORE = 255
"""Label of voxels that nobody has decided on, in a store whose preparation has `ignore` or `sparse`."""

SELDOM = ("notes", "taken", "direction", "modality", "outside")
"""What a record has only where there is something to say."""

REPAIR_HINT = "run the same `jcl prepare` command again: it repairs what is damaged"


TUPLES = ("shape", "spacing", "scale", "offset", "voxels", "notes", "taken", "direction", "outside")
"""What JSON has as lists."""


@dataclass(frozen=True)
class CaseRecord:
    """What the manifest says of a case.

    Attributes:
        slices, shape: d, and (h, w) without padding.
        spacing: through-plane, row and column spacing in mm, after resampling.
        status: `ready`.
        source: `images` and `label` -> path below the source folder and sha256 of each file.
        digests: file name -> digest.
        scale, offset: of the image codes, one per channel.
        voxels: of each class, the background left out; empty without labels.
        taken: slices that the source has, and mm between them, where it was resampled through the plane; the file has
            this key only there.
        direction: unit vector in LPS at right angles to its slices, to a thousandth; the file has this key only where
            its source states one.
        modality: as DICOM calls it (`CT`, `MR`); the file has this key only where its source states one.
        outside: the shares of its values below and above the window that they were clipped to; the file has this key
            only where there is a window.
        notes: how its files were read where they can be read in more than one way; the file has this key only if
            there are some.
    """

    case: str
    patient: str
    slices: int
    shape: tuple[int, int]
    spacing: tuple[float, float, float]
    labelled: bool
    status: str
    source: dict[str, list[list[str]]]
    digests: dict[str, str]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    voxels: tuple[int, ...]
    notes: tuple[str, ...] = ()
    taken: tuple[int, float] | tuple[()] = ()
    direction: tuple[float, float, float] | tuple[()] = ()
    modality: str = ""
    outside: tuple[float, float] | tuple[()] = ()

    @property
    def own(self) -> tuple[int, float]:
        """Slices of the source, which are scored, and mm between them."""
        return self.taken or (self.slices, self.spacing[0])


@dataclass(frozen=True)
class SkippedCase:
    """A case that was skipped, and why."""

    case: str
    patient: str
    reason: str
    status: str = "refused"


def as_record(entry: Mapping[str, Any]) -> CaseRecord:
    """A record as JSON has it, lists for tuples, made a record again.

    Raises:
        DataError: its case or one of its files is named by a path, which could lead out of the store.
    """
    seldom = {field.name: field.default for field in fields(CaseRecord) if field.name in SELDOM}
    values: dict[str, Any] = {field.name: {**seldom, **entry}[field.name] for field in fields(CaseRecord)}
    values.update({key: tuple(values[key]) for key in TUPLES})
    for name in (values["case"], *values["digests"]):
        if not name or Path(name).name != name or name.startswith("."):
            raise DataError(f"{name!r:.80}: no name of a case or of its files in a store; do not use this store")
    return CaseRecord(**values)


def as_entry(record: CaseRecord) -> dict[str, Any]:
    """A record as JSON has it."""
    return {key: value for key, value in vars(record).items() if value or key not in SELDOM}


def write_sealed(path: Path, content: Mapping[str, Any], *, sync: bool = True) -> None:
    """Write a JSON file with format version and digest, whole or not at all; with `sync` also after a power cut.

    Raises:
        WriteError: the disk is full, or the file cannot be written.
    """
    write_digested_json(path, {"format": FORMAT, **content}, sync=sync)


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a file of `write_sealed`, verified.

    Raises:
        DamagedError: it is not as it was written.
        DataError: it cannot be read, or is of another format version.
    """
    return read_digested_json(path, version=FORMAT, repair=REPAIR_HINT)
