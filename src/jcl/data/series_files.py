"""The DICOM series and structures in a folder: pydicom, which takes a third of a second, is loaded only for these."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jcl.data.dicom.file import may_be_dicom
from jcl.data.folders import without_roles
from jcl.data.leftout import LeftOut
from jcl.data.series_choice import choose_series

if TYPE_CHECKING:
    from jcl.data.dicom.series import DicomSeries, SeriesSearch

__all__ = ["case_of_series", "common_folder", "dicom_series", "holds_structures", "search_folder"]


def dicom_series(
    source: Path, paths: Iterable[Path], left_out: LeftOut, wanted: str | None = None
) -> "Sequence[DicomSeries]":
    """The DICOM series below `source` among some files; all others of them are noted in `left_out`.

    Raises:
        DataError: none is one of those wanted (see `jcl.data.series_choice`).
    """
    searched = search_folder(source, paths, left_out)
    for kind, number in Counter(kind for _, kind in (searched.structures if searched else ())).items():
        left_out.count(f"DICOM files ({kind})", number)
    return choose_series(source, searched.series if searched else (), wanted, left_out)


def search_folder(source: Path, paths: Iterable[Path], left_out: LeftOut) -> "SeriesSearch | None":
    """The DICOM series and structures among some files, if there is a DICOM file; others are noted in `left_out`."""
    candidates: list[Path] = []
    for path in paths:
        if may_be_dicom(path):
            candidates.append(path)
        else:
            left_out.unused(path)
    if not candidates:
        return None
    from jcl.data.dicom import series

    files = [path for path in candidates if series.is_dicom(path)]
    for path in sorted(set(candidates).difference(files)):
        left_out.unused(path)
    searched = series.search_series(source, files)
    for kind, number in searched.left_out.items():
        left_out.count(f"DICOM files ({kind})", number)
    return searched


def holds_structures(path: Path) -> bool:
    """Whether a file is a DICOM-SEG object or an RTSTRUCT."""
    if not may_be_dicom(path):
        return False
    from jcl.data.dicom.header import read_header
    from jcl.data.dicom.series import STRUCTURES

    return read_header(path).kind in STRUCTURES


def common_folder(files: Sequence[Path]) -> Path:
    """The innermost folder that all of some files lie in."""
    return Path(os.path.commonpath([path.parent for path in files]))


def case_of_series(folders: Sequence[str], series: str, *, alone: bool) -> str:
    """A series that is alone in its folder is named by it, as a file would be; of several, each has its own name."""
    if alone and (kept := without_roles(folders)):
        return "_".join(kept)
    return "_".join(part for part in series.split("_") if part not in folders or without_roles([part]))
