"""Where the slices of a store come from: their number in the files of their scan, and their place in the scanner."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jcl.data.geometry import Geometry
from jcl.data.grids import read_grid
from jcl.data.manifest import CaseRecord
from jcl.data.notes import noted
from jcl.data.sources import SliceFiles, Source, suffix_of
from jcl.errors import DataError
from jcl.files import check_regular, read_error

__all__ = ["SliceOrigin", "slice_origins"]


@dataclass(frozen=True)
class SliceOrigin:
    """Of a slice.

    Attributes:
        file: below the source folder; of a DICOM series that of the slice itself, where its files are the slices.
        axis: of the file's own axes x, y and z, that along which the slice lies.
        index: along that axis, from 0, in the order in which the file has its voxels; of a series along its normal.
        centre: of the slice, in mm: to the left, to the back, to the head (LPS).
    """

    file: str
    axis: str
    index: int
    centre: tuple[float, float, float]


def slice_origins(record: CaseRecord, source: Path, *, channels: int = 1) -> list[SliceOrigin]:
    """The origin of each slice of a case, in the order of the store. Slices are turned, and never mixed.

    Args:
        record: what the store says of the case.
        source: folder of scans that the store was made of.
        channels: of the store.

    Raises:
        DataError: a file of the case cannot be read, or is not the one that the store was made of.
    """
    entries = record.source.get("images", [])
    for name, digest in entries:
        _check_same(source / name, digest)
    paths = tuple(source / name for name, _ in entries)
    series = bool(paths) and not suffix_of(paths[0])
    scan: Source = SliceFiles(paths[0].parent, paths) if series else paths[0]
    with noted():  # what is doubtful of a header was said when the store was made
        geometry = read_grid(scan, channels, copy=False).geometry(scan)
    if geometry.shape[0] != record.slices:
        raise DataError(f"{scan}: has {geometry.shape[0]} slices, in the store {record.slices}; prepare it again")
    return [_origin(number, geometry, [name for name, _ in entries], series=series) for number in range(record.slices)]


def _origin(number: int, geometry: Geometry, names: list[str], *, series: bool) -> SliceOrigin:
    along = geometry.axes[0]  # of the array's z, y, x
    index = geometry.shape[0] - 1 - number if geometry.flips[0] else number
    at = [(size - 1) / 2 for size in geometry.size]
    at[2 - along] = index
    x, y, z = (geometry.affine @ np.array([*at, 1.0]))[:3].tolist()
    file = names[index] if series and along == 0 else names[0]
    return SliceOrigin(file, "zyx"[along], index, (x, y, z))


def _check_same(path: Path, digest: str) -> None:
    check_regular(path)
    try:
        with path.open("rb") as file:
            same = hashlib.file_digest(file, "sha256").hexdigest() == digest
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; give --source the folder that the store was made of") from error
    except OSError as error:
        raise read_error(path, error) from error
    if not same:
        raise DataError(f"{path}: has changed since the store was made, so that its slices may be others; restore it")
