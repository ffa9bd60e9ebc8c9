"""The prepared store: written atomically, verified, read slice by slice.

    STORE/plan.json             the recipe, written first: what a rerun has to agree with
    STORE/cases/CASE/           one folder a case, there only when it is whole
        case.json               its record
        images.slices           12-bit codes, value = code * scale + offset for each channel
        labels.slices           classes, 0 is the background (labelled cases only)
    STORE/store.json            the manifest, written last: the mark that the store is complete

Every byte is vouched for: store.json by its own digest, case files by the manifest.
"""

import hashlib
import json
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import zstandard
from jaxtyping import Float32, UInt8

from jcl.data.imagefile import write_error
from jcl.data.slicefile import Index, read_index, read_slice, write_slices
from jcl.errors import DataError

__all__ = ["FORMAT", "CaseRecord", "Refused", "Store", "read_case", "read_json", "write_case", "write_json", "write_manifest"]

FORMAT = 1
MANIFEST = "store.json"
PLAN = "plan.json"
CASES = "cases"
CODES = 4095
"""Largest code: 12 bits hold what scanners measure, and pack much better than 16."""

MAX_HANDLES = 64
"""Files kept open; one more and the longest unused is closed."""


@dataclass(frozen=True)
class CaseRecord:
    """What the manifest says of a case.

    Attributes:
        slices, shape: d, and (h, w) without padding.
        spacing: through-plane, row and column spacing in mm, after resampling.
        status: `ready`.
        source: role -> path below the source folder and sha256 of each file.
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


class Store:
    """A prepared store, opened for reading. It may be pickled and sent to loader processes.

    Example:
        >>> store = Store.open(path)                                    # doctest: +SKIP
        >>> store.image(0, 5).shape, store.label(0, 5).shape            # doctest: +SKIP
        ((1, 256, 256), (256, 256))
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path = path
        self.recipe: dict[str, Any] = manifest["recipe"]
        self.digest: str = manifest["digest"]
        self.channels: int = manifest["channels"]
        self.size: tuple[int, int] = (manifest["size"][0], manifest["size"][1])
        self.class_names: tuple[str, ...] = tuple(manifest["classes"])
        self.cases: tuple[CaseRecord, ...] = tuple(as_record(entry) for entry in manifest["cases"])
        self.refused: tuple[Refused, ...] = tuple(Refused(**entry) for entry in manifest["refused"])
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._open: OrderedDict[Path, tuple[BinaryIO, Index]] = OrderedDict()
        self._unpacker = zstandard.ZstdDecompressor()

    @classmethod
    def open(cls, path: Path | str) -> "Store":
        """Open a complete store.

        Raises:
            DataError: there is none, it is unfinished, damaged, or of another format version.
        """
        path = Path(path)
        manifest = path / MANIFEST
        if not manifest.is_file():
            if (path / PLAN).is_file():
                raise DataError(f"{path}: this store is unfinished; run the same `jcl prepare` command again")
            raise DataError(f"{path}: no store (it has no {MANIFEST}); make one with `jcl prepare`")
        return cls(path, read_json(manifest))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if not key.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def __len__(self) -> int:
        return len(self.cases)

    def image(self, case_index: int, slice_index: int) -> Float32[np.ndarray, "c H W"]:
        """One slice, padded with zeros to the store's size, its content centred.

        Raises:
            DataError: the case's file is damaged or missing; the message names it.
            IndexError: there is no such case or slice.
        """
        record = self._record(case_index, slice_index)
        codes = self._read(record, "images.slices", slice_index)
        rows, columns = self.content(case_index)
        out = np.zeros((self.channels, *self.size), np.float32)
        for channel in range(self.channels):
            content = out[channel, rows, columns]
            np.multiply(codes[channel], np.float32(record.scale[channel]), out=content)
            content += np.float32(record.offset[channel])
        return out

    def label(self, case_index: int, slice_index: int) -> UInt8[np.ndarray, "H W"]:
        """Classes of one slice: 0 is the background, k + 1 is `class_names[k]`; padded with 0.

        Raises:
            DataError: the case has no labels, or its file is damaged or missing.
            IndexError: there is no such case or slice.
        """
        record = self._record(case_index, slice_index)
        if not record.labelled:
            raise DataError(f"{self.path}: case {record.case} has no labels")
        out = np.zeros(self.size, np.uint8)
        out[self.content(case_index)] = self._read(record, "labels.slices", slice_index)[0]
        return out

    def content(self, case_index: int) -> tuple[slice, slice]:
        """Rows and columns that hold the case; what is around them is padding."""
        height, width = self.cases[case_index].shape
        top, left = (self.size[0] - height) // 2, (self.size[1] - width) // 2
        return slice(top, top + height), slice(left, left + width)

    def counted(self, case_index: int) -> dict[str, int]:
        """Voxels of each structure in a case's labels; empty without labels."""
        record = self.cases[case_index]
        return dict(zip(self.class_names, record.voxels, strict=True)) if record.labelled else {}

    def verify(self) -> list[str]:
        """Read every byte of every case; one line for each damaged file."""
        problems: list[str] = []
        for record in self.cases:
            problems += damage(self.path / CASES / record.case, record)
        return problems

    def close(self) -> None:
        """Close the files that are kept open; a later read opens them again."""
        with self._lock:
            while self._open:
                self._open.popitem()[1][0].close()

    def _record(self, case_index: int, slice_index: int) -> CaseRecord:
        record = self.cases[case_index]
        if not 0 <= slice_index < record.slices:
            raise IndexError(f"case {record.case} has {record.slices} slices, none with number {slice_index}")
        return record

    def _read(self, record: CaseRecord, name: str, number: int) -> np.ndarray:
        if self._process != os.getpid():
            # A forked process shares file positions with its parent, so it opens its own.
            self._start()
        with self._lock:
            path = self.path / CASES / record.case / name
            entry = self._open.get(path)
            if entry is None:
                file, index = open_slices(path, record)
                self._open[path] = (file, index)
                if len(self._open) > MAX_HANDLES:
                    self._open.popitem(last=False)[1][0].close()
            else:
                file, index = entry
                self._open.move_to_end(path)
            try:
                return read_slice(index, file, number, self._unpacker)
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def as_record(entry: Mapping[str, Any]) -> CaseRecord:
    """A record as JSON has it, lists for tuples, made a record again."""
    lists = ("shape", "spacing", "scale", "offset", "voxels")
    known = CaseRecord.__dataclass_fields__
    return CaseRecord(**{key: tuple(value) if key in lists else value for key, value in entry.items() if key in known})


def open_slices(path: Path, record: CaseRecord) -> tuple[BinaryIO, Index]:
    """A slice file, opened, and its verified index.

    Raises:
        DataError: it is missing, damaged, or of another shape than the record says.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); prepare the store again") from error
    try:
        index = read_index(path, file, record.digests[path.name])
        if index.shape[0] != record.slices or index.shape[2:] != record.shape:
            raise DataError(f"{path}: damaged (its shape is not that of the manifest); prepare the store again")
    except OSError as error:
        file.close()
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except BaseException:
        file.close()
        raise
    return file, index


def damage(folder: Path, record: CaseRecord) -> list[str]:
    """Read all of a case; one line for each damaged file."""
    problems: list[str] = []
    unpacker = zstandard.ZstdDecompressor()
    for name in record.digests:
        try:
            file, index = open_slices(folder / name, record)
            with file:
                for number in range(record.slices):
                    read_slice(index, file, number, unpacker)
        except DataError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{folder / name}: cannot be read ({error.strerror or error})")
    return problems


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
) -> CaseRecord:
    """Write a case: to a temporary folder first, which gets its name when all of it is on the disk.

    Raises:
        WriteError: the disk is full, or the folder cannot be written.
    """
    final = store / CASES / case
    # Short, whatever the case's name, and no case's: find_cases takes no name with a leading dot.
    temporary = store / CASES / f".{hashlib.sha256(case.encode()).hexdigest()[:16]}.{os.getpid()}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        scale, offset, codes = _encode(image)
        digests = {"images.slices": write_slices(temporary / "images.slices", codes)}
        voxels: tuple[int, ...] = ()
        if labels is not None:
            digests["labels.slices"] = write_slices(temporary / "labels.slices", (part[None] for part in labels))
            voxels = tuple(np.bincount(labels.ravel(), minlength=classes + 1)[1:].tolist())
        shape = (image.shape[2], image.shape[3])
        record = CaseRecord(
            case, patient, image.shape[1], shape, spacing, labels is not None, "ready", source, digests, scale, offset, voxels
        )
        write_json(temporary / "case.json", asdict(record))
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        sync_folder(final.parent)
    except OSError as error:
        raise write_error(final, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return record


def _encode(image: Float32[np.ndarray, "c d h w"]) -> tuple[tuple[float, ...], tuple[float, ...], list[np.ndarray]]:
    """Scale and offset of each channel, and the 12-bit codes slice by slice."""
    low = [float(channel.min()) for channel in image]
    scale = [(float(channel.max()) - start) / CODES or 1.0 for channel, start in zip(image, low, strict=True)]
    codes = np.empty(image.shape, np.uint16)
    for channel, start, step, out in zip(image, low, scale, codes, strict=True):
        out[:] = np.clip(np.rint((channel - np.float32(start)) / np.float32(step)), 0, CODES)
    return tuple(scale), tuple(low), [codes[:, number] for number in range(codes.shape[1])]


def read_case(folder: Path) -> CaseRecord | None:
    """The record of a case that is whole and undamaged, else None."""
    try:
        record = as_record(read_json(folder / "case.json"))
    except (DataError, TypeError):
        return None
    return None if damage(folder, record) else record


def write_manifest(
    store: Path, recipe: Mapping[str, Any], cases: list[CaseRecord], refused: list[Refused], size: tuple[int, int]
) -> None:
    """Write store.json, which makes the store complete."""
    content = {
        "recipe": recipe, "channels": recipe["channels"], "size": size, "classes": recipe["classes"],
        "cases": [asdict(record) for record in cases], "refused": [asdict(entry) for entry in refused],
    }  # fmt: skip
    write_json(store / MANIFEST, content)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file with format version and digest, whole or not at all.

    Raises:
        WriteError: the disk is full, or the file cannot be written.
    """
    values = {"format": FORMAT, **content}
    text = json.dumps({**values, "digest": _digest(values)}, indent=1, ensure_ascii=False)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise write_error(path, error) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of `write_json`, verified.

    Raises:
        DataError: it cannot be read, is damaged, or is of another format version.
    """
    try:
        content: object = json.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}); prepare the store again into another folder") from error
    values = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    if "format" in values and values["format"] != FORMAT:
        raise DataError(f"{path}: format version {values['format']}, this jcl reads {FORMAT}; prepare the store again")
    digest = values.pop("digest", None)
    if digest != _digest(values):
        raise DataError(f"{path}: damaged (it does not have its digest); prepare the store again into another folder")
    return {**values, "digest": digest}


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, ensure_ascii=False).encode()).hexdigest()


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` outlast a power cut (POSIX; elsewhere folders cannot be synced)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
