"""`volumes.json` and `volumes.csv`: how large each structure of each scan is, and how sure that is."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import UInt8

from jcl.data.geometry import Geometry
from jcl.errors import DataError
from jcl.files import read_json, write_atomically, write_json
from jcl.inference.doubt import Doubt, of_structures
from jcl.text import csv_cell

__all__ = ["TABLE", "entry_of", "write_tables"]

FORMAT = 1
TABLE = "volumes.json"
SHEET = "volumes.csv"
COLUMNS = ("scan", "structure", "voxels", "ml", "doubt", "expected_dice")
DIGITS = 6


def entry_of(
    result: str,
    classes: UInt8[np.ndarray, "d h w"],
    geometry: Geometry,
    names: Sequence[str],
    doubts: list[Doubt],
) -> dict[str, Any]:
    """What the table says of a scan.

    Keys: `result`, the name of its file; `spacing` of the scan's own axes, mm; `doubt` of the case; and `structures`,
    each with `voxels`, `ml` (none for a picture, which has no volume), `doubt` and `expected_dice` (of
    `jcl.inference.doubt`, none where it was not found).
    """
    sizes = np.bincount(classes.reshape(-1), minlength=len(names) + 1)[1:].tolist()
    voxel = None if geometry.picture else math.prod(geometry.spacing) / 1000
    sure = of_structures(doubts, names)
    structures = {
        name: {"voxels": size, "ml": None if voxel is None else round(size * voxel, DIGITS), **sure["structures"][name]}
        for name, size in zip(names, sizes, strict=True)
    }
    spacing = list(geometry.spacing[: 2 if geometry.picture else 3])
    return {"result": result, "spacing": spacing, "doubt": sure["doubt"], "structures": structures}


def write_tables(folder: Path, scans: Mapping[str, Mapping[str, Any]]) -> None:
    """Write both tables; what an earlier one says of other scans, whose results are still there, stays in them.

    Args:
        folder: of the results.
        scans: name of a scan -> its `entry_of`.

    Raises:
        DataError: an earlier table is damaged, or not of this program.
        WriteError: the disk is full, or the folder cannot be written.
    """
    before = _earlier(folder / TABLE)
    there = {name: entry for name, entry in before.items() if (folder / str(entry.get("result"))).is_file()}
    merged = {**there, **scans}
    ordered = {name: merged[name] for name in sorted(merged)}
    write_json(folder / TABLE, {"format": FORMAT, "scans": ordered}, seal=True)
    write_atomically(folder / SHEET, _sheet(ordered).encode("utf-8", "replace"))


def _earlier(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    content: object = read_json(path)
    found = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    scans = found.get("scans")
    if found.get("format") != FORMAT or not isinstance(scans, dict):
        raise DataError(f"{path}: not what `jcl predict --volumes` writes; remove it, or choose another --out")
    return cast("dict[str, dict[str, Any]]", scans)


def _sheet(scans: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for each scan and structure; names that a spreadsheet would take for formulas begin with an apostrophe."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for scan, entry in scans.items():
        for structure, values in entry["structures"].items():
            row = (scan, structure, *(values[column] for column in COLUMNS[2:]))
            writer.writerow([csv_cell(value) for value in row])
    return file.getvalue()
