"""Structures of a series as its labels: from a DICOM-SEG object, or from the contours of an RTSTRUCT.

Their numbers differ from file to file; what a structure is, its name says.
"""

import contextlib
import warnings
from collections.abc import Generator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int32
from pydicom import dcmread
from pydicom.dataset import Dataset

from jcl.data.affine import Affine, Size
from jcl.data.dicom.contours import contoured, named_contours
from jcl.data.dicom.file import open_dicom
from jcl.data.dicom.planes import text
from jcl.data.dicom.segments import named_segments, segmented
from jcl.data.folders import folded_words
from jcl.data.notes import note
from jcl.errors import DataError

__all__ = ["read_structures", "referenced_series", "structure_names"]


def structure_names(path: Path) -> tuple[str, ...]:
    """Names of the structures in the file, each once, in the file's order.

    Raises:
        DataError: the file cannot be read, or holds no structure.
    """
    with _reading(path, pixels=False) as dataset:
        return tuple(_named(path, dataset))


def referenced_series(path: Path) -> str:
    """SeriesInstanceUID of the series that the structures are of; empty where the file names none or several.

    Raises:
        DataError: the file cannot be read.
    """
    with _reading(path, pixels=False) as dataset:
        found: set[str] = set()
        for series in dataset.get("ReferencedSeriesSequence", []):
            found.add(text(series, "SeriesInstanceUID"))
        for frame in dataset.get("ReferencedFrameOfReferenceSequence", []):
            for study in frame.get("RTReferencedStudySequence", []):
                for series in study.get("RTReferencedSeriesSequence", []):
                    found.add(text(series, "SeriesInstanceUID"))
    return found.pop() if len(found) == 1 else ""


def read_structures(path: Path, affine: Affine, size: Size, values: Mapping[str, int]) -> Int32[np.ndarray, "z y x"]:
    """The structures on the voxels of their series, in its own order of axes.

    Where two overlap, the voxels go to the smaller one, which a note says: a voxel has one label, and the larger is
    mostly drawn around the smaller. What is not in `values` is left out, which another says.

    Args:
        path: a DICOM-SEG object or an RTSTRUCT.
        affine: from indices x, y, z of the series to mm (LPS).
        size: voxels of the series along x, y, z.
        values: label value of each structure; letters' case and spaces at the ends of names do not matter.

    Raises:
        DataError: the file cannot be read, or its structures do not lie on the voxels of the series.
    """
    wanted = {folded_words(name): value for name, value in values.items()}
    masks: dict[int, Bool[np.ndarray, "z y x"]] = {}
    with _reading(path, pixels=True) as dataset:
        names = _named(path, dataset)
        for name, members in names.items():
            if (value := wanted.get(folded_words(name))) is not None:
                mask = (contoured if _is_contours(dataset) else segmented)(path, dataset, members, affine, size)
                masks[value] = masks[value] | mask if value in masks else mask
        if unknown := [name for name in names if folded_words(name) not in wanted]:
            note(f"{path}: left out, since --labels does not name them: {', '.join(unknown)}")
    labels = np.zeros(size[::-1], np.int32)
    shared = 0
    for value, mask in sorted(masks.items(), key=lambda item: -int(np.count_nonzero(item[1]))):
        shared += int(np.count_nonzero(labels[mask]))
        labels[mask] = value
    if shared:
        note(f"{path}: structures overlap in {shared} voxels, which were given to the smaller one of each two")
    return labels


def _is_contours(dataset: Dataset) -> bool:
    return "StructureSetROISequence" in dataset


def _named(path: Path, dataset: Dataset) -> dict[str, tuple[int, ...]]:
    """Names of the structures, and the numbers of each in the file."""
    pairs = named_contours(dataset) if _is_contours(dataset) else named_segments(dataset)
    found: dict[str, tuple[int, ...]] = {}
    for number, name in pairs:
        same = next((each for each in found if folded_words(each) == folded_words(name)), name)
        found[same] = (*found.get(same, ()), number)
    if not found:
        raise DataError(f"{path}: holds no structure; remove it, or save it again with what it shall hold")
    return found


@contextlib.contextmanager
def _reading(path: Path, *, pixels: bool) -> Generator[Dataset]:
    """The file's content; whatever pydicom raises at it, now or when a value is decoded, is a `DataError`."""
    try:
        with open_dicom(path) as file, warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pydicom")
            yield dcmread(file, stop_before_pixels=not pixels, force=True)
    except (DataError, MemoryError):
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error
    except Exception as error:  # of any type
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())[:120]}); copy it again") from error
