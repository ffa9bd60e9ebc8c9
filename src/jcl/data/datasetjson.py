"""dataset.json of the Decathlon and of nnU-Net 1 and 2: labels, channels, and which files are images and labels."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from jcl.data.sources import SUFFIXES, stem
from jcl.errors import DataError
from jcl.files import check_regular, json_problem, read_error

__all__ = ["channels_of", "file_ending", "grouped", "labels_of", "listed_cases", "read_dataset_json"]

NUMBER = re.compile(r"_(\d{4})$")
"""nnU-Net's number of a channel, at the end of an image's name."""

INTERNAL = (".b2nd", ".npy", ".npz", ".pkl")


def read_dataset_json(source: Path) -> dict[str, Any]:
    """Content of a folder's dataset.json.

    Raises:
        DataError: it is missing or no JSON object.
    """
    path = source / "dataset.json"
    check_regular(path)
    try:
        content: object = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing, and a set of this layout needs it; leave --dataset out") from error
    except OSError as error:
        raise read_error(path, error) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON file ({json_problem(error)}); correct it") from error
    if not isinstance(content, dict):
        raise DataError(f'{path}: not a JSON object; it has to begin with {{ and have the keys "labels" and so on')
    return cast("dict[str, Any]", content)


def channels_of(path: Path, content: Mapping[str, Any]) -> dict[str, str]:
    """Names of the channels by their numbers: `channel_names` (nnU-Net 2) or `modality` (Decathlon, nnU-Net 1).

    Raises:
        DataError: they are no table of names.
    """
    key = "channel_names" if content.get("channel_names") else "modality"
    value = content.get(key) or {"0": ""}
    if isinstance(value, str):
        value = {"0": value}
    if isinstance(value, list):
        value = {str(number): name for number, name in enumerate(cast("list[Any]", value))}
    if not isinstance(value, dict):
        raise DataError(f'{path}: its {key} {value!r:.40} is not a table; write it as "{key}": {{"0": "CT"}}')
    table = cast("dict[Any, Any]", value)
    if all(isinstance(number, int) and not isinstance(number, bool) for number in table.values()):
        table = {number: name for name, number in table.items()}  # {"CT": 0}, as its labels are written
    return {str(number): str(name) for number, name in table.items()}


def labels_of(path: Path, content: Mapping[str, Any]) -> dict[int, str]:
    """Names of the label values, rising; the background, 0, is not named.

    They are written as {"1": "liver"} (Decathlon, nnU-Net 1) or as {"liver": 1} (nnU-Net 2).

    Raises:
        DataError: a value is not a whole number, is named twice, or is a region (a list of values).
    """
    table: object = content.get("labels", {})
    if not isinstance(table, dict):
        raise DataError(f'{path}: its labels {table!r:.40} are not a table; write them as "labels": {{"liver": 1}}')
    names: dict[int, str] = {}
    for key, value in cast("dict[Any, Any]", table).items():
        number, name = _label(path, str(key), value)
        if names.setdefault(number, name) != name:
            raise DataError(f"{path}: its labels name the value {number} twice ({names[number]}, {name}); leave one")
    if names.get(0, "").lower() == "ignore":
        raise DataError(
            f'{path}: its labels name 0 "ignore", but 0 is the background and cannot be ignored; correct it'
        )
    return {number: names[number] for number in sorted(names) if number != 0}


def _label(path: Path, key: str, value: Any) -> tuple[int, str]:
    if isinstance(value, (list, tuple)):
        raise DataError(
            f"{path}: its label {key!r} is a region (a list of values), which is not supported; give each value one "
            'name, as in "labels": {"edema": 1, "core": 2}, or name the values with --labels'
        )
    if isinstance(value, int) and not isinstance(value, bool):
        return value, key
    if isinstance(value, float) and value.is_integer():
        return int(value), key
    if isinstance(value, str) and re.fullmatch(r"-?\d+", key):
        return int(key), value
    if isinstance(value, str) and re.fullmatch(r"-?\d+", value):
        return int(value), key
    raise DataError(
        f'{path}: its label "{key}": {value!r:.40} has no whole number; write "labels": {{"liver": 1}} or '
        '{"1": "liver"}'
    )


def file_ending(path: Path, content: Mapping[str, Any]) -> str | None:
    """The ending that nnU-Net's `file_ending` says all images and labels have, in lower case; None if it says none.

    Raises:
        DataError: files of that kind cannot be read.
    """
    value: object = content.get("file_ending")
    if not isinstance(value, str):
        return None
    ending = "." + value.lower().lstrip(".")
    if not any(ending.endswith(suffix) for suffix in SUFFIXES):
        kind = "nnU-Net's own preprocessed files" if ending in INTERNAL else "files that cannot be read"
        raise DataError(
            f'{path}: its "file_ending" is {value!r}, {kind}; convert the set to one of {", ".join(SUFFIXES)} and '
            "correct the key"
        )
    return ending


def grouped(
    path: Path, content: Mapping[str, Any], images: Iterable[tuple[str, Path]], labels: Iterable[str]
) -> tuple[dict[str, tuple[Path, ...]], dict[str, str]]:
    """The images of each case in the order of their channels, and what is wrong with a case.

    nnU-Net (1 and 2) has a file for each channel, whose number ends the name; the Decathlon has one file. Which it is,
    `channel_names` says, or else the names of the labels and of the images.

    Args:
        path: of the dataset.json, for messages.
        content: of that file.
        images: the name of each file in imagesTr without its ending, and the file.
        labels: the same of the label files.

    Raises:
        DataError: some files are numbered and others are not, or a case name occurs twice.
    """
    files = sorted(images)
    if not _numbered(path, content, [name for name, _ in files], set(labels)):
        found: dict[str, tuple[Path, ...]] = {}
        for name, file in files:
            if name in found:
                raise DataError(f"{file}: the case name {name} occurs twice; rename one of the files")
            found[name] = (file,)
        return found, {}
    channels = len(channels_of(path, content))
    parts: defaultdict[str, dict[int, Path]] = defaultdict(dict)
    for name, file in files:
        match = NUMBER.search(name)
        case, number = (name[: match.start()], int(match[1])) if match else (name, 0)
        if number in parts[case]:
            raise DataError(f"{file}: channel {number} of case {case} occurs twice; rename one of the files")
        parts[case][number] = file
    problems: dict[str, str] = {}
    for case, of_case in parts.items():
        missing = [number for number in range(channels) if number not in of_case]
        extra = [number for number in of_case if number >= channels]
        first = of_case[min(of_case)]
        if missing:
            problems[case] = (
                f"{first}: case {case} has no file for channel {missing[0]} ({case}_{missing[0]:04d}), and "
                f"{path.name} names {channels} channels; add the file, or correct channel_names"
            )
        elif extra:
            problems[case] = f"{of_case[extra[0]]}: channel {extra[0]}, but {path.name} names {channels} channels"
    return {case: tuple(of_case[number] for number in sorted(of_case)) for case, of_case in parts.items()}, problems


def _numbered(path: Path, content: Mapping[str, Any], images: list[str], labels: set[str]) -> bool:
    """Whether each image's name ends in the number of its channel."""
    ends = [bool(NUMBER.search(name)) for name in images]
    if not any(ends):
        return False
    cases = labels | {stem(file) for files, _ in listed_cases(path.parent, content).values() for file in files}
    if any(name in labels for name in images):
        return False  # names of the Decathlon may end in four digits as well
    if "channel_names" in content:
        return True
    if all(name in cases for name in images):
        return False
    if not all(ends):
        odd = images[ends.index(False)]
        raise DataError(
            f"{path.parent}: the name {odd} has no number of a channel, as nnU-Net's images have (_0000), but others "
            "have; rename it, or the others"
        )
    if cases:
        return any(NUMBER.sub("", name) in cases for name in images)
    return all(int(NUMBER.search(name)[1]) < len(channels_of(path, content)) for name in images)  # type: ignore[index]


def listed_cases(source: Path, content: Mapping[str, Any]) -> dict[str, tuple[tuple[Path, ...], Path | None]]:
    """The cases that dataset.json itself lists, with their images and label: `training`, or nnU-Net 2's `dataset`.

    Raises:
        DataError: a file outside of the folder is named.
    """
    found: dict[str, tuple[tuple[Path, ...], Path | None]] = {}
    listed: object = content.get("dataset")
    if isinstance(listed, dict):
        for case, entry in cast("dict[str, Any]", listed).items():
            values = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
            images: object = values.get("images")
            names = [str(name) for name in cast("list[Any]", images)] if isinstance(images, list) else []
            label: object = values.get("label")
            if names:
                files = tuple(_inside(source, name) for name in names)
                found[str(case)] = (files, _inside(source, label) if isinstance(label, str) else None)
        return found
    training: object = content.get("training")
    for entry in cast("list[Any]", training) if isinstance(training, list) else []:
        values = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {"image": entry}
        name: object = values.get("image")
        if isinstance(name, str):
            file = _inside(source, name)
            found[stem(file)] = ((file,), None)
    return found


def _inside(source: Path, name: str) -> Path:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(f"{source / 'dataset.json'}: it names {name}, which is outside of the folder; move it in")
    return source / name
