"""The prepared store, read slice by slice and verified; `jcl.data.store_writing` writes it.

    STORE/plan.json             the preparation, written first: what a rerun has to agree with
    STORE/cases/CASE/           one folder per case, there only when it is whole
        case.json               its record
        images.slices           12-bit codes, value = code * scale + offset for each channel
        labels.slices           classes, 0 is the background, 255 what is ignored (labelled cases only)
        labels-taken.slices     the same on the slices of the source, where those of the case are others
    STORE/store.json            the manifest, written last: the mark that the store is complete

Every byte is vouched for: the JSON files by their own digest, the slices by the manifest.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from jcl.data.context import neighbours, span_of
from jcl.data.manifest import (
    IGNORE,
    REPAIR_HINT,
    CaseRecord,
    SkippedCase,
    as_record,
    read_sealed,
)
from jcl.data.slicefile import Pixels, SliceFile
from jcl.errors import DataError

__all__ = ["CASES", "IMAGES", "LABELS", "MANIFEST", "PLAN", "TAKEN", "CaseRecord", "SkippedCase", "Store", "damage_of"]

MANIFEST = "store.json"
PLAN = "plan.json"
CASES = "cases"
IMAGES = "images.slices"
LABELS = "labels.slices"
TAKEN = "labels-taken.slices"


MAX_HANDLES = 64
"""Files kept open; one more and the longest unused is closed."""


class Store:
    """A prepared store, opened for reading. It may be pickled and sent to loader processes.

    Attributes:
        channels: c of every image.
        size: (H, W) that every slice is padded to.
        class_names: structures; label k + 1 in the store is the k-th of them.
        preparation: all that preparing a new scan in the same way needs (see `preparation.make_preparation`).
        digest: of the manifest, and so of every byte of the store.
        cases, skipped: what is in the store, and what could not be prepared.

    Examples:
        >>> store = Store.open("store")  # doctest: +SKIP
        >>> store.image(0, 5).shape, store.label(0, 5).shape  # doctest: +SKIP
        ((1, 256, 256), (256, 256))
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path = path
        self.preparation: dict[str, Any] = manifest["recipe"]
        self.digest: str = manifest["digest"]
        self.channels: int = manifest["recipe"]["channels"]
        self.size: tuple[int, int] = (manifest["recipe"]["padded"][0], manifest["recipe"]["padded"][1])
        self.class_names: tuple[str, ...] = tuple(manifest["recipe"]["classes"])
        self.cases: tuple[CaseRecord, ...] = tuple(as_record(entry) for entry in manifest["cases"])
        self.skipped: tuple[SkippedCase, ...] = tuple(SkippedCase(**entry) for entry in manifest["refused"])
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._open: OrderedDict[Path, SliceFile] = OrderedDict()

    @classmethod
    def open(cls, path: Path | str) -> "Store":
        """Open a complete store.

        Raises:
            DataError: there is none, it is unfinished, damaged, or of another format version.
        """
        path = Path(path)
        if not (path / MANIFEST).is_file():
            if (path / PLAN).is_file():
                raise DataError(f"{path}: this store is unfinished; run the same `jcl prepare` command again")
            if not path.exists():
                raise DataError(f"{path}: no store (no such folder); check its name, or make one with `jcl prepare`")
            raise DataError(f"{path}: no store (it has no {MANIFEST}); make one with `jcl prepare`")
        manifest = read_sealed(path / MANIFEST)
        try:
            return cls(path, manifest)
        except DataError as error:
            raise DataError(f"{path / MANIFEST}: {error}") from error
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{path}: made by a jcl whose stores lacked {error}; prepare it again into a new folder"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if not key.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def image(
        self, case_index: int, slice_index: int, out: Float32[np.ndarray, "k H W"] | None = None, *, context: int = 0
    ) -> Float32[np.ndarray, "k H W"]:
        """One slice, padded with zeros to the store's size, its content centred.

        Args:
            case_index: number of the case in `cases`.
            slice_index: number of the slice in the case.
            out: written to and returned, instead of a new array.
            context: neighbours on each side that come with it as channels (see `jcl.data.context`).

        Raises:
            DataError: the case's file is damaged or missing; the message names it.
            IndexError: there is no such case or slice.
            ValueError: `out` is not float32, or has not the store's size.
        """
        record, shape = self.cases[case_index], (span_of(context) * self.channels, *self.size)
        if not 0 <= slice_index < record.slices:
            raise IndexError(f"case {record.case} has {record.slices} slices, none with number {slice_index}")
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.shape != shape or out.dtype != np.float32:
            raise ValueError(f"{out.dtype} {out.shape} for slices that are float32 {shape}")
        before = None
        for place, number in enumerate(neighbours(slice_index, record.slices, context)):
            part = out[place * self.channels : (place + 1) * self.channels]
            if before is not None and before[0] == number:  # beyond an end of the volume
                part[...] = before[1]
            else:
                self._unpack(case_index, number, part)
            before = number, part
        return out

    def _unpack(self, case_index: int, number: int, out: Float32[np.ndarray, "c H W"]) -> None:
        """Write a slice by itself to `out`."""
        record = self.cases[case_index]
        codes = self._read(record, IMAGES, number)
        if record.shape != self.size:
            out.fill(0)
        content = out[:, *self.content(case_index)]
        for channel, scale, offset, codes_of_channel in zip(content, record.scale, record.offset, codes, strict=True):
            channel[...] = codes_of_channel
            channel *= np.float32(scale)
            channel += np.float32(offset)

    def image_window(
        self, case_index: int, slice_index: int, window: tuple[slice, slice]
    ) -> Float32[np.ndarray, "c h w"]:
        """Rows and columns of one slice of the case itself, without the store's padding; errors as of `image`."""
        record = self.cases[case_index]
        codes = self._read(record, IMAGES, slice_index)[:, *window].astype(np.float32)
        scale, offset = (np.array(each, np.float32)[:, None, None] for each in (record.scale, record.offset))
        codes *= scale
        codes += offset
        return codes

    @property
    def ignores(self) -> bool:
        """Whether voxels may be labelled `IGNORE`: left out of loss and scores."""
        return "ignore" in self.preparation or "sparse" in self.preparation

    def label(self, case_index: int, slice_index: int, *, ignored_as: int = IGNORE) -> UInt8[np.ndarray, "H W"]:
        """Classes of one slice: 0 is the background, k + 1 is `class_names[k]`; padded with 0.

        Args:
            case_index: number of the case in `cases`.
            slice_index: number of the slice in the case.
            ignored_as: what ignored voxels of a store that `ignores` are.

        Raises:
            DataError: the case has no labels, or its file is damaged or missing.
            IndexError: there is no such case or slice.
        """
        record = self.cases[case_index]
        if not record.labelled:
            raise DataError(f"{self.path}: case {record.case} has no labels")
        out = np.zeros(self.size, np.uint8)
        out[self.content(case_index)] = self._read(record, LABELS, slice_index)[0]
        if self.ignores and ignored_as != IGNORE:
            out[out == IGNORE] = ignored_as
        return out

    def label_window(self, case_index: int, slice_index: int, window: tuple[slice, slice]) -> UInt8[np.ndarray, "h w"]:
        """Rows and columns of one slice of the case's own labels, without padding; errors as of `label`."""
        record = self.cases[case_index]
        if not record.labelled:
            raise DataError(f"{self.path}: case {record.case} has no labels")
        return self._read(record, LABELS, slice_index)[0, *window]

    def truth(self, case_index: int, slice_index: int) -> UInt8[np.ndarray, "h w"]:
        """Classes of one slice of the source, by which a case is scored, without padding; errors as of `label`."""
        record = self.cases[case_index]
        if not record.labelled:
            raise DataError(f"{self.path}: case {record.case} has no labels")
        return np.array(self._read(record, TAKEN if record.taken else LABELS, slice_index)[0])

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
        return [line for record in self.cases for line in damage_of(self.path / CASES / record.case, record)]

    def close(self) -> None:
        """Close the files that are kept open; a later read opens them again."""
        with self._lock:
            self._open.clear()

    def _read(self, record: CaseRecord, name: str, number: int) -> Pixels:
        if not 0 <= number < (slices := _slices_in(name, record)):
            raise IndexError(f"case {record.case} has {slices} slices, none with number {number}")
        if self._process != os.getpid():
            self._start()  # a forked process shares file positions with its parent, so it opens its own files
        path = self.path / CASES / record.case / name
        with self._lock:
            file = self._open.pop(path, None) or _open_slices(path, record)
            self._open[path] = file
            if len(self._open) > MAX_HANDLES:
                self._open.popitem(last=False)
        return file.read(number)


def _slices_in(name: str, record: CaseRecord) -> int:
    """How many slices a file of a case has."""
    return record.own[0] if name == TAKEN else record.slices


def _open_slices(path: Path, record: CaseRecord) -> SliceFile:
    """A slice file of a case.

    Raises:
        DataError: it is missing, damaged, or of another shape than the record says.
    """
    file = SliceFile(path, record.digests[path.name])
    if file.shape[0] != _slices_in(path.name, record) or file.shape[2:] != record.shape:
        raise DataError(f"{path}: damaged (its shape is not that of the manifest); {REPAIR_HINT}")
    return file


def damage_of(folder: Path, record: CaseRecord) -> list[str]:
    """Read all of a case; one line for each damaged file."""
    problems: list[str] = []
    for name in record.digests:
        try:
            file = _open_slices(folder / name, record)
            for number in range(file.shape[0]):
                file.read(number)
        except DataError as error:
            problems.append(str(error))
    return problems
