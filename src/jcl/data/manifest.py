"""JSON files that vouch for themselves, and what a store's manifest says of each case."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from jcl.data.imagefile import write_error
from jcl.errors import DataError

__all__ = [
    "FORMAT",
    "MEND",
    "CaseRecord",
    "Damaged",
    "Refused",
    "as_record",
    "read_sealed",
    "sync_folder",
    "write_sealed",
]

FORMAT = 1
"""Version of a store's layout; raised when an older program could misread it."""


MEND = "run the same `jcl prepare` command again: it mends what is damaged"


class Damaged(DataError):
    """The file is there, but not as it was written."""


@dataclass(frozen=True)
class CaseRecord:
    """What the manifest says of a case.

    Attributes:
        slices, shape: d, and (h, w) without padding.
        spacing: through-plane, row and column spacing in mm, after resampling.
        status: `ready`.
        source: `images` and `label` -> path below the source folder and sha256 of each file.
        digests: file name -> digest.
        scale, offset: of the image codes, one a channel.
        voxels: of each class, the background left out; empty without labels.
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


@dataclass(frozen=True)
class Refused:
    """A case that was set aside, and why."""

    case: str
    patient: str
    reason: str
    status: str = "refused"


def as_record(entry: Mapping[str, Any]) -> CaseRecord:
    """A record as JSON has it, lists for tuples, made a record again."""
    tuples = ("shape", "spacing", "scale", "offset", "voxels")
    values: dict[str, Any] = {field.name: entry[field.name] for field in fields(CaseRecord)}
    values.update({key: tuple(values[key]) for key in tuples})
    return CaseRecord(**values)


def write_sealed(path: Path, content: Mapping[str, Any], *, sync: bool = True) -> None:
    """Write a JSON file with format version and digest, whole or not at all; with `sync` also after a power cut.

    Raises:
        WriteError: the disk is full, or the file cannot be written.
    """
    values = {"format": FORMAT, **content}
    text = json.dumps({**values, "digest": _digest(values)}, indent=1, ensure_ascii=False) + "\n"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            # File names that are no UTF-8 come back as they were.
            file.write(text.encode("utf-8", "surrogateescape"))
            if sync:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if sync:
            sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise write_error(path, error) from error


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a file of `write_sealed`, verified.

    Raises:
        Damaged: it is not as it was written.
        DataError: it cannot be read, or is of another format version.
    """
    try:
        content: object = json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path}: damaged ({error}); {MEND}") from error
    values = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    digest = values.pop("digest", None)
    if digest == _digest(values) and values.get("format") == FORMAT:
        return {**values, "digest": digest}
    if isinstance(values.get("format"), int) and values["format"] != FORMAT:
        raise DataError(f"{path}: format version {values['format']}, this jcl reads {FORMAT}; prepare the store again")
    raise Damaged(f"{path}: damaged (it does not have its digest); {MEND}")


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogateescape")).hexdigest()


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` outlast a power cut (POSIX; elsewhere folders cannot be synced)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
