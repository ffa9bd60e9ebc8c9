"""What is known of a data set: one small TOML file each in `specs/`, and how its cases are found on disk."""

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jcl.data.layouts import find_by_pattern, find_in_folder, find_msd, read_dataset_json
from jcl.data.sources import SUFFIXES, Source
from jcl.errors import DataError, UsageError

__all__ = ["CaseSource", "DatasetSpec", "find_cases", "load_spec", "parse_labels", "resolve", "spec_names"]

SPECS = Path(__file__).parent / "specs"
TYPES: dict[str, type] = {
    **dict.fromkeys(("title", "modality", "licence", "source_url", "label", "patient"), str),
    **dict.fromkeys(("size", "channels"), int),
    **dict.fromkeys(("images", "clip"), list),
    "fit": bool,
}
LAYOUTS = ("auto", "folder", "msd", "files")
MAX_CLASSES = 255


@dataclass(frozen=True)
class DatasetSpec:
    """A data set: what it is, where its files are and how its volumes are prepared.

    Attributes:
        labels: value in the label files -> name of the structure; the background, 0, is not named.
            Several values may have one name.
        spacing: in-plane spacing in mm to resample to; None keeps each volume's own.
        size: side in pixels that slices are padded to; None is the largest slice.
        normalisation: after clipping, `minmax` to [0, 1] or `zscore`.
        clip: lower and upper percentile of each volume that intensities are clipped to.
        layout: `folder`, `msd`, `files` (by the patterns below) or `auto` (msd or folder).
        images: with layout `files`, one regular expression a channel; each has to match a file's
            whole path below the source (with `/`), and its group `case` names the case.
        label: the same for label files.
        other_labels: a value that `labels` does not name is an `error`, or becomes `background`.
        patient: regular expression whose first group, found in the case's name, is the patient.
        channels: images, 4-D components or colours that make one volume.
        fit: shrink or enlarge each slice so that its longer side is `size`: pictures without a scale.
    """

    name: str
    title: str = ""
    modality: str = ""
    licence: str = ""
    source_url: str = ""
    labels: dict[int, str] = field(default_factory=dict[int, str])
    spacing: float | None = None
    size: int | None = None
    normalisation: str = "minmax"
    clip: tuple[float, float] = (1.0, 99.0)
    layout: str = "auto"
    images: tuple[str, ...] = ()
    label: str | None = None
    other_labels: str = "error"
    patient: str | None = None
    channels: int = 1
    fit: bool = False

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the structures, each once; class k + 1 of a store is the k-th of them."""
        return tuple(dict.fromkeys(self.labels.values()))


@dataclass(frozen=True)
class CaseSource:
    """The files of one volume: one image a channel (or a single one of several), and the label if there is one.

    `problem` says why it cannot be used, where its files show that before they are read.
    """

    case: str
    patient: str
    images: tuple[Source, ...]
    label: Source | None
    problem: str | None = None


def spec_names() -> list[str]:
    """Names of the data sets that come with the package."""
    return sorted(path.stem for path in SPECS.glob("*.toml"))


def load_spec(name_or_path: str | Path) -> DatasetSpec:
    """The spec of a data set, by its name or from a TOML file.

    Raises:
        UsageError: no such name or file, a key is unknown, or a value cannot be used.
    """
    text = str(name_or_path)
    path = Path(text) if text.endswith(".toml") else SPECS / f"{text}.toml"
    if path.parent == SPECS and path.stem not in spec_names():
        raise UsageError(f"no data set is named {text!r}; known: {', '.join(spec_names())}, or a .toml file")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a TOML file ({error})") from error
    return _checked(path, values)


def _checked(path: Path, values: dict[str, Any]) -> DatasetSpec:
    known = {f.name for f in dataclasses.fields(DatasetSpec)} - {"name"}
    for key in values:
        if key not in known:
            raise UsageError(f"{path}: unknown key {key!r}; known: {', '.join(sorted(known))}")
    try:
        labels = {int(value): str(name) for value, name in values.get("labels", {}).items()}
        for key, kind in TYPES.items():
            if not isinstance(values.get(key, kind()), kind):
                raise TypeError(f"{key} = {values[key]!r}; it has to be of the type {kind.__name__}")
        arguments: dict[str, Any] = {**values, "labels": labels}
        arguments.update({key: tuple(values[key]) for key in ("images", "clip") if key in values})
        if "spacing" in values:
            arguments["spacing"] = float(values["spacing"])
        if "images" in values and "channels" not in values:
            arguments["channels"] = len(values["images"])
        spec = DatasetSpec(name=path.stem, **arguments)
        _check(spec)
    except (TypeError, ValueError, AttributeError, re.error) as error:
        raise UsageError(f"{path}: {error}") from error
    return spec


def _check(spec: DatasetSpec) -> None:
    """Raises ValueError for values that make no sense."""
    choices = {
        "layout": LAYOUTS, "normalisation": ("minmax", "zscore"), "other_labels": ("error", "background"),
    }  # fmt: skip
    for key, allowed in choices.items():
        if getattr(spec, key) not in allowed:
            raise ValueError(f"{key} = {getattr(spec, key)!r}; it has to be one of {', '.join(allowed)}")
    if spec.spacing is not None and not 0 < spec.spacing < float("inf"):
        raise ValueError(f"spacing = {spec.spacing}; it has to be larger than 0 (mm)")
    if spec.size is not None and spec.size < 1:
        raise ValueError(f"size = {spec.size}; it has to be at least 1 (pixel)")
    if len(spec.clip) != 2 or not 0 <= spec.clip[0] < spec.clip[1] <= 100:
        raise ValueError(f"clip = {list(spec.clip)}; two rising percentiles are needed")
    if 0 in spec.labels:
        raise ValueError("labels: 0 is the background and cannot be named")
    if len(spec.class_names) > MAX_CLASSES:
        raise ValueError(f"labels: {len(spec.class_names)} classes; at most {MAX_CLASSES} can be stored")
    if spec.channels < 1 or (len(spec.images) > 1 and spec.channels != len(spec.images)):
        raise ValueError(f"channels = {spec.channels}; it has to be at least 1, and one a pattern of images")
    if spec.fit and (spec.size is None or spec.spacing is not None):
        raise ValueError("fit: it needs a size, and no spacing")
    if spec.layout == "files" and not spec.images:
        raise ValueError("images: at least one pattern is needed")
    patterns = (*spec.images, spec.label) if spec.label else spec.images
    re.compile(spec.patient or "")
    if not all("case" in re.compile(pattern).groupindex for pattern in patterns):
        raise ValueError("images, label: each pattern needs a group (?P<case>...)")


def parse_labels(text: str) -> dict[int, str]:
    """Label names as the command line takes them: "1=liver,2=spleen".

    Raises:
        UsageError: the text has another form, or a value or name is given twice.
    """
    labels: dict[int, str] = {}
    for part in text.split(","):
        value, separator, name = part.partition("=")
        if not separator or not name.strip() or not re.fullmatch(r"\s*[1-9]\d*\s*", value):
            raise UsageError(f"labels: {part!r} is not VALUE=NAME with a value above 0, as in 1=liver,2=spleen")
        if int(value) in labels:
            raise UsageError(f"labels: the value {int(value)} is named twice")
        labels[int(value)] = name.strip()
    return labels


def resolve(
    spec: DatasetSpec,
    source: Path,
    *,
    spacing: float | None = None,
    size: int | None = None,
    labels: str | None = None,
    patient: str | None = None,
    channels: int | None = None,
    fit: bool | None = None,
) -> DatasetSpec:
    """The spec with what the user gave put in, `auto` decided and, for msd, dataset.json read.

    Raises:
        DataError: `source` is no folder, or its dataset.json is missing or cannot be used.
        UsageError: a given value cannot be used.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such folder")
    if spec.layout == "auto":
        layout = _layout(spec, source)
        spec = dataclasses.replace(spec, layout=layout, name=layout if spec.name == "auto" else spec.name)
    if spec.layout == "msd":
        spec = _with_dataset_json(spec, source)
    given: dict[str, Any] = {
        "spacing": spacing, "size": size, "patient": patient, "channels": channels, "fit": fit or None
    }  # fmt: skip
    spec = dataclasses.replace(spec, **{key: value for key, value in given.items() if value is not None})
    if labels is not None:
        spec = dataclasses.replace(spec, labels=parse_labels(labels))
    try:
        _check(spec)
    except (ValueError, re.error) as error:
        raise UsageError(str(error)) from error
    return spec


def _with_dataset_json(spec: DatasetSpec, source: Path) -> DatasetSpec:
    content = read_dataset_json(source)
    try:
        channels = content.get("channel_names") or content.get("modality") or {"0": ""}
        modality = spec.modality or ", ".join(str(name) for name in channels.values())
        labels = spec.labels or _msd_labels(content.get("labels", {}))
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{source / 'dataset.json'}: its labels or modality cannot be used ({error})") from error
    title = spec.title or str(content.get("name", ""))
    licence = spec.licence or str(content.get("licence", content.get("license", "")))
    return dataclasses.replace(
        spec, labels=labels, channels=len(channels), title=title, licence=licence, modality=modality
    )


def _msd_labels(content: Mapping[Any, Any]) -> dict[int, str]:
    """Labels as {"1": "liver"} (Decathlon) or {"liver": 1} (nnU-Net), sorted by value, background left out."""
    pairs = [
        (int(value), str(key)) if isinstance(value, int) else (int(key), str(value)) for key, value in content.items()
    ]
    return {value: name for value, name in sorted(pairs) if value != 0}


def find_cases(source: Path, spec: DatasetSpec, patient_regex: str | None = None) -> list[CaseSource]:
    """The cases of a folder, sorted by name. An image without a label is an unlabelled case.

    Args:
        patient_regex: takes the place of `spec.patient`.

    Raises:
        DataError: there is no image, a label has no image, or two cases have one name.
        UsageError: the patient expression has no group or does not fit a case.
    """
    layout = _layout(spec, source)
    if layout == "msd":
        found = find_msd(source)
    elif layout == "files":
        found = find_by_pattern(source, spec.images, spec.label)
    else:
        found = find_in_folder(source)
    if not found.images:
        kinds = f"{', '.join(SUFFIXES)}, DICOM"
        wanted = f"file matches {spec.images[0]}" if layout == "files" else f"image found ({kinds})"
        raise DataError(f"{source}: no {wanted}")
    _check_names(found.images, found.labels)
    regex = patient_regex if patient_regex is not None else spec.patient
    return [
        CaseSource(
            case,
            _patient(case, regex, found.patients.get(case)),
            found.images[case],
            found.labels.get(case),
            found.problems.get(case),
        )
        for case in sorted(found.images)
    ]


def _layout(spec: DatasetSpec, source: Path) -> str:
    if spec.layout != "auto":
        return spec.layout
    return "msd" if (source / "dataset.json").is_file() else "folder"


def _check_names(images: Mapping[str, tuple[Source, ...]], labels: Mapping[str, Source]) -> None:
    for case, path in sorted(labels.items()):
        if case not in images:
            raise DataError(f"{path}: this label has no image; add the image or move the label away")
    folded: dict[str, str] = {}
    for case in sorted(images):
        path = images[case][0]
        if not case or case.startswith("."):
            raise DataError(f"{path}: the case name {case!r} cannot name a folder; rename the file")
        # A file system may not tell upper from lower case, and a store has a folder a case.
        other = folded.setdefault(case.casefold(), case)
        if other != case:
            raise DataError(f"{path}: its case name differs from {other} in upper and lower case only; rename one")


def _patient(case: str, regex: str | None, known: str | None) -> str:
    """The patient of a case: what the expression finds in its name, else what its files say, else its name."""
    if regex is None:
        return known or case
    try:
        compiled = re.compile(regex)
    except re.error as error:
        raise UsageError(f"patient: {regex!r} is no regular expression ({error})") from error
    if compiled.groups < 1:
        raise UsageError(f"patient: {regex!r} has no group; put the part that names the patient in (brackets)")
    match = compiled.search(case)
    if match is None or not match.group(1):
        raise UsageError(f"patient: {regex!r} finds no patient in the case name {case!r}")
    return match.group(1)
