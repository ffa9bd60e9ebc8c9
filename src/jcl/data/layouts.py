"""Where the images and labels of a data set lie: three layouts, each a function from a folder to its files."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from jcl.errors import DataError

__all__ = ["SUFFIXES", "Found", "find_by_pattern", "find_in_folder", "find_msd", "read_dataset_json", "stem"]

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".png")
"""File name endings that are taken for images."""

IMAGE_FOLDERS = ("images", "imagesTr")
LABEL_FOLDERS = ("labels", "labelsTr")

Found = tuple[dict[str, tuple[Path, ...]], dict[str, Path]]
"""Images (one a channel) and label of each case."""

Value = TypeVar("Value")


def find_in_folder(source: Path) -> Found:
    """Files below folders named labels are labels; else images, only those below folders named images if there are any.

    A case is named by its path without those folders, parts joined by `_`.

    Raises:
        DataError: a case name occurs twice.
    """
    images: dict[str, tuple[Path, ...]] = {}
    labels: dict[str, Path] = {}
    parents = {path: path.relative_to(source).parts[:-1] for path in _files(source)}
    has_image_folder = any(part in IMAGE_FOLDERS for parts in parents.values() for part in parts)
    for path, parts in parents.items():
        kept = [part for part in parts if part not in IMAGE_FOLDERS + LABEL_FOLDERS]
        case = "_".join([*kept, stem(path)])
        if any(part in LABEL_FOLDERS for part in parts):
            _add(labels, case, path, path)
        elif not has_image_folder or any(part in IMAGE_FOLDERS for part in parts):
            _add(images, case, path, (path,))
    return images, labels


def find_by_pattern(source: Path, patterns: Sequence[str], label: str | None) -> Found:
    """Files whose path below the source matches an expression; its group `case` names the case.

    Args:
        patterns: one a channel.
        label: for label files.

    Raises:
        DataError: two files make one case name, or a case lacks a channel.
    """
    channels: list[dict[str, Path]] = [{} for _ in patterns]
    labels: dict[str, Path] = {}
    for path in _files(source):
        text = path.relative_to(source).as_posix()
        for pattern, into in zip((*patterns, label), (*channels, labels), strict=True):
            match = re.fullmatch(pattern, text) if pattern else None
            if match:
                _add(into, match["case"].replace("/", "_"), path, path)
    for case in sorted({case for channel in channels for case in channel}):
        for pattern, channel in zip(patterns, channels, strict=True):
            if case not in channel:
                raise DataError(f"{source}: case {case} has no file that matches {pattern}")
    return {case: tuple(channel[case] for channel in channels) for case in channels[0]}, labels


def find_msd(source: Path) -> Found:
    """Files in imagesTr and labelsTr, as in the Decathlon, or with a number a channel, as nnU-Net has them.

    A case that dataset.json names but whose image is not there is kept: reading it will say so.

    Raises:
        DataError: dataset.json cannot be read or names a file outside of the folder, or a case name
            occurs twice.
    """
    content = read_dataset_json(source)
    numbered = "channel_names" in content
    images: dict[str, tuple[Path, ...]] = {}
    labels: dict[str, Path] = {}
    for path in _files(source / "labelsTr"):
        _add(labels, stem(path), path, path)
    for path in _files(source / "imagesTr"):
        if numbered:
            case = re.sub(r"_\d{4}$", "", stem(path))
            images[case] = (*images.get(case, ()), path)
        else:
            _add(images, stem(path), path, (path,))
    if not numbered:
        for path in _named_in(source, content):
            images.setdefault(stem(path), (path,))
    return images, labels


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


def stem(path: Path) -> str:
    """A file's name without its image suffix."""
    return path.name[: len(path.name) - len(_suffix(path.name))]


def _named_in(source: Path, content: dict[str, Any]) -> Iterator[Path]:
    training = content.get("training")
    for entry in cast("list[Any]", training) if isinstance(training, list) else []:
        name = cast("dict[str, Any]", entry).get("image") if isinstance(entry, dict) else entry
        if isinstance(name, str):
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise DataError(f"{source / 'dataset.json'}: it names {name}, which is outside of the folder")
            yield source / name


def _suffix(name: str) -> str:
    return next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")


def _files(folder: Path) -> Iterator[Path]:
    """Image files below `folder` in a fixed order; names with a leading dot (macOS leaves some) are left out."""
    seen: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        # A link to a folder above would make the walk endless.
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real in seen:
            continue
        seen.add(real)
        for name in sorted(names):
            if not name.startswith(".") and _suffix(name):
                yield Path(root, name)


def _add(into: dict[str, Value], case: str, path: Path, value: Value) -> None:
    if case in into:
        raise DataError(f"{path}: the case name {case} occurs twice; rename one of the files")
    into[case] = value
