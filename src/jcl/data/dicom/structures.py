"""Structures of a series as its labels: from a DICOM-SEG object, or from the contours of an RTSTRUCT.

Their numbers differ from file to file; what a structure is, its name says.
"""

import contextlib
import warnings
from collections.abc import Generator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int32
from pydicom import dcmread
from pydicom.dataset import Dataset

from jcl.data.affine import Affine, Size
from jcl.data.dicom.contours import contoured, named_contours
from jcl.data.dicom.file import open_dicom
from jcl.data.dicom.planes import text
from jcl.data.dicom.segments import named_segments, segmented
from jcl.data.named_structures import grouped_by_name, label_structures
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

    Args:
        path: a DICOM-SEG object or an RTSTRUCT.
        affine: from indices x, y, z of the series to mm (LPS).
        size: voxels of the series along x, y, z.
        values: see `jcl.data.named_structures.label_structures`.

    Raises:
        DataError: the file cannot be read, or its structures do not lie on the voxels of the series.
    """
    with _reading(path, pixels=True) as dataset:
        masked = contoured if _is_contours(dataset) else segmented
        return label_structures(
            path, _named(path, dataset), lambda members: masked(path, dataset, members, affine, size), size, values
        )


def _is_contours(dataset: Dataset) -> bool:
    return "StructureSetROISequence" in dataset


def _named(path: Path, dataset: Dataset) -> dict[str, tuple[int, ...]]:
    """Names of the structures, and the numbers of each in the file."""
    found = grouped_by_name(named_contours(dataset) if _is_contours(dataset) else named_segments(dataset))
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
