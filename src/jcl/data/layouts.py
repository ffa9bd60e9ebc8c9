"""Where the images and labels of a data set lie: three layouts, each a function from a folder to its files."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from jcl.data.dicom.file import may_be_dicom
from jcl.data.sources import Source, Stack, stem, suffix_of
from jcl.errors import DataError

if TYPE_CHECKING:
    from jcl.data.dicom.series import DicomSeries

__all__ = ["Found", "dicom_series", "find_by_pattern", "find_in_folder", "find_msd", "read_dataset_json", "walk"]

IMAGE_FOLDERS = ("images", "imagesTr")
LABEL_FOLDERS = ("labels", "labelsTr")

Value = TypeVar("Value")


@dataclass(frozen=True)
class Found:
    """What lies in a folder, by case.

    Attributes:
        images: one source a channel.
        patients: of the cases whose files say so themselves (DICOM).
        problems: why a case cannot be used, where its files show that before they are read.
    """

    images: dict[str, tuple[Source, ...]] = field(default_factory=dict[str, tuple[Source, ...]])
    labels: dict[str, Source] = field(default_factory=dict[str, Source])
    patients: dict[str, str] = field(default_factory=dict[str, str])
    problems: dict[str, str] = field(default_factory=dict[str, str])


def find_in_folder(source: Path) -> Found:
    """Files below folders named labels are labels; else images, only those below folders named images if there are any.

    A case is named by its path without those folders, parts joined by `_`. DICOM files are grouped into
    series (see `jcl.data.dicom`).

    Raises:
        DataError: a case name occurs twice.
    """
    found = Found()
    unknown: list[Path] = []
    parents = {path: path.relative_to(source).parts[:-1] for path in walk(source)}
    has_image_folder = any(part in IMAGE_FOLDERS for parts in parents.values() for part in parts)
    for path, parts in parents.items():
        is_label = any(part in LABEL_FOLDERS for part in parts)
        if not is_label and has_image_folder and not any(part in IMAGE_FOLDERS for part in parts):
            continue
        if not suffix_of(path):
            unknown += [] if is_label else [path]
            continue
        case = "_".join([*_without_roles(parts), stem(path)])
        if is_label:
            _add(found.labels, case, path, path)
        else:
            _add(found.images, case, path, (path,))
    all_series = dicom_series(source, unknown)
    in_folder = Counter(_folder(series.files) for series in all_series)
    for series in all_series:
        folder = _folder(series.files)
        case = _case_of(folder.relative_to(source).parts, series.name, alone=in_folder[folder] == 1)
        _add(found.images, case, folder, (Stack(folder, series.files),))
        found.patients[case] = series.patient
        if series.problem:
            found.problems[case] = series.problem
    return found


def find_by_pattern(source: Path, patterns: Sequence[str], label: str | None) -> Found:
    """Files whose path below the source matches an expression; its group `case` names the case.

    The pattern decides what a case is, and whose: patient IDs of published DICOM files are often all the same.
    DICOM files of one case are its series; label files of one case beside a series are its slices, of
    which the first by name belongs to the first file of the series by name.

    Args:
        patterns: one a channel.
        label: for label files.

    Raises:
        DataError: two files make one case name, or a case lacks a channel.
    """
    channels: list[dict[str, list[Path]]] = [{} for _ in patterns]
    labels: dict[str, list[Path]] = {}
    for path in walk(source):
        text = path.relative_to(source).as_posix()
        for pattern, into in zip((*patterns, label), (*channels, labels), strict=True):
            match = re.fullmatch(pattern, text) if pattern else None
            if match:
                into.setdefault(match["case"].replace("/", "_"), []).append(path)
    found = Found()
    for case in sorted({case for channel in channels for case in channel}):
        for pattern, channel in zip(patterns, channels, strict=True):
            if case not in channel:
                raise DataError(f"{source}: case {case} has no file that matches {pattern}")
        found.images[case] = tuple(_one_image(found, case, channel[case]) for channel in channels)
    for case, paths in labels.items():
        first = found.images.get(case, (paths[0],))[0]
        found.labels[case] = _label_stack(first, paths) if isinstance(first, Stack) else _only(case, paths)
    return found


def find_msd(source: Path) -> Found:
    """Files in imagesTr and labelsTr, as in the Decathlon, or with a number a channel, as nnU-Net has them.

    A case that dataset.json names but whose image is not there is kept: reading it will say so.

    Raises:
        DataError: dataset.json cannot be read or names a file outside of the folder, or a case name
            occurs twice.
    """
    content = read_dataset_json(source)
    numbered = "channel_names" in content
    found = Found()
    for path in _images(source / "labelsTr"):
        _add(found.labels, stem(path), path, path)
    for path in _images(source / "imagesTr"):
        if numbered:
            case = re.sub(r"_\d{4}$", "", stem(path))
            found.images[case] = (*found.images.get(case, ()), path)
        else:
            _add(found.images, stem(path), path, (path,))
    if not numbered:
        for path in _named_in(source, content):
            found.images.setdefault(stem(path), (path,))
    return found


def read_dataset_json(source: Path) -> dict[str, Any]:
    """Content of a folder's dataset.json.

    Raises:
        DataError: it is missing or no JSON object.
    """
    path = source / "dataset.json"
    try:
        content: object = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: not a JSON object")
    return cast("dict[str, Any]", content)


def _named_in(source: Path, content: dict[str, Any]) -> Iterator[Path]:
    training = content.get("training")
    for entry in cast("list[Any]", training) if isinstance(training, list) else []:
        name = cast("dict[str, Any]", entry).get("image") if isinstance(entry, dict) else entry
        if isinstance(name, str):
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise DataError(f"{source / 'dataset.json'}: it names {name}, which is outside of the folder")
            yield source / name


def walk(folder: Path) -> Iterator[Path]:
    """Files below `folder` in a fixed order; names with a leading dot (macOS leaves some) are left out."""
    seen: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        # A link to a folder above would make the walk endless.
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real in seen:
            continue
        seen.add(real)
        yield from (Path(root, name) for name in sorted(names) if not name.startswith("."))


def _images(folder: Path) -> Iterator[Path]:
    return (path for path in walk(folder) if suffix_of(path))


def dicom_series(source: Path, paths: Iterable[Path]) -> "list[DicomSeries]":
    """The DICOM series below `source` among some files."""
    candidates = [path for path in paths if may_be_dicom(path)]
    if not candidates:
        return []
    from jcl.data.dicom.series import find_series, is_dicom  # only here: loading pydicom takes a third of a second

    return find_series(source, [path for path in candidates if is_dicom(path)])


def _one_image(found: Found, case: str, paths: list[Path]) -> Source:
    """The image of one channel: a file, or the one series that DICOM files make."""
    if suffix_of(paths[0]):
        return _only(case, paths)
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    series = dicom_series(folder, paths)
    if len(series) != 1:
        what = f"{len(series)} series" if series else "no image"
        found.problems[case] = f"{folder}: its DICOM files hold {what}, where one series is needed"
        return Stack(folder, tuple(paths))
    if series[0].problem:
        found.problems[case] = series[0].problem
    return Stack(folder, series[0].files)


def _label_stack(image: Stack, paths: list[Path]) -> Source:
    """Label slices in the order of the image's: both were numbered alike, whatever way the numbers run."""
    folder = paths[0].parent
    if len(paths) != len(image.files):
        return Stack(folder, tuple(sorted(paths)))  # reading it will say that the numbers differ
    by_name = sorted(range(len(paths)), key=lambda number: image.files[number].name)
    labels: dict[int, Path] = dict(zip(by_name, sorted(paths), strict=True))
    return Stack(folder, tuple(labels[number] for number in range(len(paths))))


def _only(case: str, paths: list[Path]) -> Path:
    if len(paths) > 1:
        raise DataError(f"{paths[1]}: the case name {case} occurs twice; rename one of the files")
    return paths[0]


def _folder(files: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([path.parent for path in files]))


def _case_of(folders: Sequence[str], series: str, *, alone: bool) -> str:
    """A series that is alone in its folder is named by it, as a file would be; of several, each has its own name."""
    if alone and (kept := _without_roles(folders)):
        return "_".join(kept)
    return "_".join(part for part in series.split("_") if part not in folders or part not in IMAGE_FOLDERS)


def _without_roles(parts: Iterable[str]) -> list[str]:
    return [part for part in parts if part not in IMAGE_FOLDERS + LABEL_FOLDERS]


def _add(into: dict[str, Value], case: str, path: Path, value: Value) -> None:
    if case in into:
        raise DataError(f"{path}: the case name {case} occurs twice; rename one of the files")
    into[case] = value
