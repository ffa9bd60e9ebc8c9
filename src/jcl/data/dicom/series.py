"""DICOM series below a folder: found, parted into volumes, named, sorted and checked, by their headers alone."""

import hashlib
import io
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jcl.data.dicom.file import open_dicom
from jcl.data.dicom.header import Header, is_dicom, read_header
from jcl.data.dicom.planes import MARKS
from jcl.data.dicom.stack import Slice, heights, same_grid, same_place, sort_slices
from jcl.data.folders import walk
from jcl.errors import DataError

__all__ = ["STRUCTURES", "DicomSeries", "SeriesSearch", "find_series", "is_dicom", "search_series"]

LEAST_SLICES = 3
"""So many images of one grid are a volume, in whose series a single image of another grid is no scan."""

STRUCTURES = ("segmentation", "RTSTRUCT")
"""Kinds of files that may be the labels of a series."""

LONGEST = 120
"""Bytes of a name; file systems have 255, and suffixes have to fit too."""


@dataclass(frozen=True)
class DicomSeries:
    """One volume of a series.

    Attributes:
        uid: SeriesInstanceUID.
        name: of the case; unique whatever the case of letters, and safe for a file system.
        patient: PatientID; where it is missing the name of the first of the series that have the same PatientName, else
            the name. A person's name is never taken.
        files: sorted by position along their normal; as they were found if there is a problem.
        problem: why it cannot be used, one line that names the folder or file and says what to do.
    """

    uid: str
    name: str
    patient: str
    files: tuple[Path, ...]
    modality: str
    description: str
    problem: str | None


@dataclass(frozen=True)
class SeriesSearch:
    """What lies below a folder.

    Attributes:
        structures: files that hold structures of a series, each with its kind (`segmentation`, `RTSTRUCT`).
        left_out: how many DICOM files there are of each other kind that is not a scan (reports, localizers).
    """

    series: tuple[DicomSeries, ...]
    structures: tuple[tuple[Path, str], ...]
    left_out: dict[str, int]


@dataclass(frozen=True)
class _Volume:
    """Headers of one volume, and what sets it apart from others of its series."""

    headers: tuple[Header, ...]
    part: str = ""
    problem: str | None = None


def find_series(source: Path, files: Iterable[Path] | None = None) -> list[DicomSeries]:
    """The volumes among the DICOM files below `source`, or among `files`, sorted by name.

    A series is parted where size, spacing or orientation differ, and, where several images lie at
    each position, by the one tag in which they differ (`MARKS`). Copies of a file are left out, and
    so are localizers and what is not an image (`search_series` counts these).

    Raises:
        DataError: there is no such folder.
    """
    return list(search_series(source, files).series)


def search_series(source: Path, files: Iterable[Path] | None = None) -> SeriesSearch:
    """As `find_series`, with the files of structures, and the number of files left out.

    Raises:
        DataError: there is no such folder.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such folder")
    left_out: Counter[str] = Counter()
    series: defaultdict[str, list[Header]] = defaultdict(list)
    lone: list[_Volume] = []
    captures: list[Header] = []
    structures: list[tuple[Path, str]] = []
    for path in walk(source) if files is None else sorted(files):
        if not path.is_file() or not is_dicom(path):
            continue
        header = read_header(path)
        if header.kind in STRUCTURES:
            structures.append((path, header.kind))
        elif header.kind != "image" or header.localizer:
            left_out["localizer" if header.kind == "image" else header.kind] += 1
        elif header.secondary:
            captures.append(header)
        elif header.problem and not header.series:
            lone.append(_Volume((header,), part=path.name))
        else:
            series[header.series or f"in {path.parent}"].append(header)
    if any(header.planes and header.planes[0].position for headers in series.values() for header in headers):
        left_out["secondary capture"] += len(captures)
    else:  # pictures are all there is
        for header in captures:
            series[header.series or f"in {header.path.parent}"].append(header)
    volumes = [_parted(headers) for headers in series.values()]
    used = sum(len(volume.headers) for of_series in volumes for volume in of_series)
    left_out["copy of another file"] += sum(map(len, series.values())) - used
    left_out = +left_out  # without zeros
    found = tuple(_described(_named(source, volumes, lone)))
    return SeriesSearch(found, tuple(structures), dict(sorted(left_out.items())))


def _parted(headers: Sequence[Header]) -> list[_Volume]:
    """The volumes of a series."""
    kept, doubled = _without_copies(headers)
    grids: list[list[Header]] = []
    for header in (header for header in kept if header.planes):
        part = Slice(header, 0)
        grid = next((grid for grid in grids if same_grid(Slice(grid[0], 0), part)), None)
        if grid is None:
            grids.append([header])
        else:
            grid.append(header)
    # A file that cannot be placed spoils the volume that it most likely belongs to.
    for header in (header for header in kept if not header.planes):
        alike = (grid for grid in grids if (grid[0].rows, grid[0].columns) == (header.rows, header.columns))
        grid = next(alike, grids[0] if grids else None)
        if grid is None:
            grids.append([header])
        else:
            grid.append(header)
    volumes: list[_Volume] = []
    for number, grid in enumerate(grids, 1):
        prefix = f"part{number}" if len(grids) > 1 else ""
        if odd := _odd_image(grid, grids):
            volumes.append(_Volume(tuple(grid), prefix, odd))
            continue
        volumes += [replace(volume, part="_".join(filter(None, (prefix, volume.part)))) for volume in _split(grid)]
    return [replace(volume, problem=doubled or volume.problem) for volume in volumes]


def _odd_image(grid: Sequence[Header], grids: Sequence[Sequence[Header]]) -> str | None:
    """What is wrong with a single image in a series whose other images make a volume; None for any other."""
    largest = max(map(len, grids))
    if len(grid) > 1 or grid[0].frames > 1 or largest < LEAST_SLICES:
        return None
    return (
        f"{grid[0].path}: a single image of another size or orientation than the {largest} others of its series, "
        "as a scout or a screen capture; leave it out"
    )


def _without_copies(headers: Sequence[Header]) -> tuple[list[Header], str | None]:
    """One file an instance; all, and a problem, if two of one instance differ."""
    kept: dict[str, Header] = {}
    problem = None
    for header in headers:
        first = kept.setdefault(header.instance or str(header.path), header)
        if first is header:
            continue
        alike = replace(header, path=first.path, offset=first.offset, problem=first.problem) == first
        if not alike or _pixel_digest(header) != _pixel_digest(first):
            shown = f"{header.path}: has the SOPInstanceUID of {first.path.name}, but is another image"
            problem = problem or f"{shown}; remove one of them"
            kept[str(header.path)] = header
    return list(kept.values()), problem


def _pixel_digest(header: Header) -> bytes:
    """Of the pixel data as they are stored, decoded or not; empty if they cannot be read."""
    try:
        with open_dicom(header.path) as file:
            file.seek(header.offset, io.SEEK_SET)
            left, digest = header.length, hashlib.sha256()
            while left > 0 and (chunk := file.read(min(left, 1 << 20))):
                digest.update(chunk)
                left -= len(chunk)
            return digest.digest()
    except (OSError, DataError):
        return b""


def _split(headers: Sequence[Header]) -> list[_Volume]:
    """Files of one grid as volumes with one slice at each position."""
    if len(headers) > 1 and any(header.frames > 1 for header in headers):
        return [_Volume((header,), f"file{number}") for number, header in enumerate(headers, 1)]
    placed = [header for header in headers if header.planes and header.planes[0].position]
    if len(placed) < len(headers) or len(placed) < 2:
        return [_Volume(tuple(headers))]
    places = heights([Slice(header, 0) for header in placed])
    order = np.argsort(places, kind="stable")
    steps = np.concatenate([[0], np.cumsum(np.diff(places[order]) >= same_place(placed[0].planes[0]))])
    level = dict(zip((placed[at].path for at in order), steps.tolist(), strict=True))
    at_level: defaultdict[int, list[Header]] = defaultdict(list)
    for header in placed:
        at_level[level[header.path]].append(header)
    deepest = max(at_level.values(), key=len)
    if len(deepest) == 1:
        return [_Volume(tuple(headers))]
    for mark, label in MARKS.items():
        parts = _by_value(placed, mark) if mark != "TriggerTime" else _by_rank(at_level, mark)
        single = all(len({level[part.path] for part in some}) == len(some) for some in parts.values())
        smallest = min(map(len, parts.values()), default=0)
        if single and len(parts) == len(deepest) and smallest >= min(2, len(at_level)):
            return [_Volume(tuple(some), f"{label}{value}") for value, some in sorted(parts.items())]
    return [_Volume(tuple(headers), problem=_doubled(deepest))]


def _by_value(headers: Sequence[Header], mark: str) -> dict[str, list[Header]]:
    parts: defaultdict[str, list[Header]] = defaultdict(list)
    for header in headers:
        parts[header.planes[0].marks.get(mark, "")].append(header)
    return parts


def _by_rank(at_level: dict[int, list[Header]], mark: str) -> dict[str, list[Header]]:
    """Phases of the heart: each slice has its own times, so the first of each belong together, and so on."""
    parts: defaultdict[str, list[Header]] = defaultdict(list)
    for headers in at_level.values():
        try:
            timed = sorted((float(header.planes[0].marks.get(mark, "")), header.path, header) for header in headers)
        except ValueError:
            return {}
        if len({time for time, _, _ in timed}) < len(timed) or len(timed) != len(at_level[0]):
            return {}
        for rank, (_, _, header) in enumerate(timed, 1):
            parts[f"{rank:03d}"].append(header)
    return parts


def _doubled(headers: Sequence[Header]) -> str:
    seen: dict[bytes, Path] = {}
    for header in headers:
        first = seen.setdefault(_pixel_digest(header), header.path)
        if first != header.path:
            return f"{header.path}: the same slice as {first.name}, at the same position; remove one of them"
    names = f"{headers[0].path.name} and {headers[1].path.name}"
    shown = (
        f"{headers[0].path.parent}: {len(headers)} images lie at one position ({names}) and no tag differs between them"
    )
    return f"{shown}; leave one volume in the series"


def _named(source: Path, series: Sequence[Sequence[_Volume]], lone: Sequence[_Volume]) -> dict[str, _Volume]:
    """A name for each volume: its folder's, with what sets it apart where a folder has several."""
    in_folder: defaultdict[Path, list[Sequence[_Volume]]] = defaultdict(list)
    for volumes in series:
        in_folder[_folder(volumes)].append(volumes)
    wanted: list[tuple[str, _Volume]] = []
    for folder, members in sorted(in_folder.items()):
        base = _folder_name(source, folder)
        members.sort(key=lambda volumes: (volumes[0].headers[0].series, volumes[0].headers[0].path))
        for volumes, label in zip(members, _labels(members), strict=True):
            for volume in volumes:
                part = volume.part if len(volumes) > 1 else ""
                wanted.append(("_".join(filter(None, (base, label, part))), volume))
    wanted += [(f"{_folder_name(source, _folder([volume]))}_{volume.part}", volume) for volume in lone]
    named: dict[str, _Volume] = {}
    used: set[str] = set()
    for name, volume in wanted:
        name = plain = _safe(name)
        number = 1
        while name.casefold() in used:
            number += 1
            name = f"{plain}_{number}"
        used.add(name.casefold())
        named[name] = volume
    return named


def _labels(members: Sequence[Sequence[_Volume]]) -> list[str]:
    """What sets the series of one folder apart: their number, else their description too."""
    if len(members) == 1:
        return [""]
    heads = [volumes[0].headers[0] for volumes in members]
    numbers = [head.number for head in heads]
    if all(numbers) and len(set(numbers)) == len(numbers):
        return numbers
    return ["_".join(filter(None, (head.number, head.description[:40]))) or "series" for head in heads]


def _folder(volumes: Sequence[_Volume]) -> Path:
    """The folder that holds all files of a series, be it in folders of its own."""
    return Path(os.path.commonpath([header.path.parent for volume in volumes for header in volume.headers]))


def _folder_name(source: Path, folder: Path) -> str:
    inside = folder.is_relative_to(source) and folder != source
    return "_".join(folder.relative_to(source).parts) if inside else (source.resolve().name or "series")


def _safe(name: str) -> str:
    """Letters, digits and . _ - only, not too long, with no dot at its start or end."""
    name = re.sub(r"[^\w.-]+", "-", unicodedata.normalize("NFC", name)).strip(".-")
    while len(name.encode()) > LONGEST:
        name = name[:-1]
    return name.rstrip(".-") or "series"


def _described(named: dict[str, _Volume]) -> Iterator[DicomSeries]:
    first_of: dict[str, str] = {}
    for name, volume in sorted(named.items(), key=lambda item: item[0].casefold()):
        head = volume.headers[0]
        files = tuple(header.path for header in volume.headers)
        problem = volume.problem
        if problem is None:
            try:
                files = tuple(dict.fromkeys(part.header.path for part in sort_slices(volume.headers).slices))
            except DataError as error:
                problem = str(error)
        patient = head.patient or (first_of.setdefault(head.person, name) if head.person else name)
        yield DicomSeries(head.series, name, patient, files, head.modality, head.description, problem)
