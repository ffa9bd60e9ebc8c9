"""What is known of a data set, one small TOML file each in `specs/`, and what a user gives beside it."""

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from jcl import schema
from jcl.data.datasetjson import channels_of, labels_of, read_dataset_json
from jcl.data.intensities import Window, check_window
from jcl.data.label_values import HIGHEST
from jcl.errors import DataError, UsageError

__all__ = ["DatasetSpec", "layout_of", "load_spec", "parse_labels", "resolve", "spec_names"]

SPECS = Path(__file__).parent / "specs"
MAX_CLASSES = 255
IGNORE_NAME = "ignore"
"""Name of the label of voxels that nobody has decided on, in nnU-Net's dataset.json."""


def _labels(value: Any, where: str) -> dict[int, str]:
    for key in schema.convert(value, dict[str, Any], where):
        if not re.fullmatch(r"-?\d+", key):
            raise UsageError(f'{where}: {key!r} is not an int; a label is named as in 1 = "liver"')
    return {int(key): name for key, name in schema.convert(value, dict[str, str], where).items()}


@dataclass(frozen=True)
class DatasetSpec:
    """A data set: what it is, where its files are and how its volumes are prepared.

    Attributes:
        labels: value in the label files -> name of the structure; the background, 0, is not named.
            Several values may have one name.
        spacing: in-plane spacing in mm to resample to; None keeps each volume's own.
        spacing_through: spacing through the plane in mm to resample to; None keeps each volume's own.
        size: side in pixels that slices are padded to; None is the largest slice.
        normalisation: after clipping, `minmax` to [0, 1] or `zscore`.
        clip: lower and upper percentile of each volume that intensities are clipped to.
        window: two values that they are clipped to in the place of percentiles (Hounsfield units of a CT).
        layout: `folder`, `msd`, `files` (by the patterns below) or `auto` (msd or folder).
        images: with layout `files`, one regular expression a channel; each has to match a file's
            whole path below the source (with `/`), and its group `case` names the case.
        label: the same for label files.
        other_labels: a value that `labels` does not name is an `error`, or becomes `background`.
        ignore: value of voxels that nobody has decided on, as `labels` may name it too (`ignore`, as nnU-Net does).
        sparse: a slice without any structure is not labelled, and ignored like those voxels.
        patient: regular expression whose first group, found in the case's name, is the patient.
        channels: images, 4-D components or colours that make one volume.
        series: regular expression in the descriptions of those DICOM series that are taken, whatever its capitals.
        grey: of pictures in colour take the brightness.
        fit: shrink or enlarge each slice so that its longer side is `size`: pictures without a scale.
    """

    name: str
    title: str = ""
    modality: str = ""
    licence: str = ""
    source_url: str = ""
    labels: Annotated[dict[int, str], _labels] = field(default_factory=dict[int, str])
    spacing: float | None = None
    size: int | None = None
    normalisation: Literal["minmax", "zscore"] = "minmax"
    clip: tuple[float, float] = (1.0, 99.0)
    layout: Literal["auto", "folder", "msd", "files"] = "auto"
    images: tuple[str, ...] = ()
    label: str | None = None
    other_labels: Literal["error", "background"] = "error"
    ignore: int | None = None
    sparse: bool = False
    patient: str | None = None
    channels: int = 1
    fit: bool = False
    grey: bool = False
    spacing_through: float | None = None
    series: str | None = None
    window: Window | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the structures, each once; class k + 1 of a store is the k-th of them."""
        return tuple(dict.fromkeys(self.labels.values()))


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
        near = schema.did_you_mean(text, spec_names())
        raise UsageError(f"no data set is named {text!r}; known: {', '.join(spec_names())}, or a .toml file{near}")
    values = schema.read_toml(path)
    spec = schema.build(DatasetSpec, values, str(path), name=path.stem)
    if spec.images and "channels" not in values:
        spec = dataclasses.replace(spec, channels=len(spec.images))
    try:
        _check(spec)
    except (ValueError, re.error) as error:
        raise UsageError(f"{path}: {error}") from error
    return spec


def _check(spec: DatasetSpec) -> None:
    """Raises ValueError for values that make no sense."""
    if spec.spacing is not None and not 0 < spec.spacing < float("inf"):
        raise ValueError(f"spacing = {spec.spacing}; it has to be larger than 0 (mm)")
    if spec.spacing_through is not None and not 0 < spec.spacing_through < float("inf"):
        raise ValueError(f"spacing_through = {spec.spacing_through}; it has to be larger than 0 (mm)")
    if spec.size is not None and spec.size < 1:
        raise ValueError(f"size = {spec.size}; it has to be at least 1 (pixel)")
    if len(spec.clip) != 2 or not 0 <= spec.clip[0] < spec.clip[1] <= 100:
        raise ValueError(f"clip = {list(spec.clip)}; two rising percentiles are needed")
    if spec.window is not None:
        check_window(spec.window)
    if spec.window is not None and spec.channels != 1:
        raise ValueError(f"window: it is for one channel, and there are {spec.channels}, each of a unit of its own")
    if spec.grey and spec.channels != 1:
        raise ValueError(f"grey: that is one channel, and channels = {spec.channels}")
    if 0 in spec.labels:
        raise ValueError("labels: 0 is the background and cannot be named")
    if wrong := [value for value in spec.labels if not 0 < value <= HIGHEST]:
        raise ValueError(f"labels: {wrong[0]}; a value of a label has to be from 1 to {HIGHEST}")
    most = MAX_CLASSES - (spec.ignore is not None or spec.sparse)
    if len(spec.class_names) > most:
        raise ValueError(f"labels: {len(spec.class_names)} classes; at most {most} can be stored")
    if spec.ignore is not None and spec.ignore < 1:
        raise ValueError(f"ignore = {spec.ignore}; a label value above 0 is needed (0 is the background)")
    if spec.ignore in spec.labels:
        raise ValueError(f"ignore = {spec.ignore}; labels names it {spec.labels[spec.ignore]}: it cannot be both")
    if spec.channels < 1 or (len(spec.images) > 1 and spec.channels != len(spec.images)):
        raise ValueError(f"channels = {spec.channels}; it has to be at least 1, and one a pattern of images")
    if spec.fit and (spec.size is None or spec.spacing is not None):
        raise ValueError("fit: it needs a size, and no spacing")
    if spec.layout == "files" and not spec.images:
        raise ValueError("images: at least one pattern is needed")
    if spec.layout != "files" and (spec.images or spec.label):
        raise ValueError('images, label: they need layout = "files"')
    if spec.series is not None and spec.layout in ("msd", "files"):
        raise ValueError("series: it takes DICOM series of a folder; here dataset.json or patterns say what is taken")
    re.compile(spec.series or "")
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
    grey: bool | None = None,
    ignore: int | None = None,
    sparse: bool = False,
    spacing_through: float | None = None,
    series: str | None = None,
    window: Window | None = None,
) -> DatasetSpec:
    """The spec with what the user gave put in, `auto` decided and, for msd, dataset.json read.

    Raises:
        DataError: `source` is not a folder, or its dataset.json is missing or cannot be used.
        UsageError: a given value cannot be used.
    """
    if not source.is_dir():
        what = "it is a file; give the folder that it is in" if source.is_file() else "no such folder; check its name"
        raise DataError(f"{source}: {what}")
    if spec.layout == "auto":
        layout = layout_of(spec, source)
        spec = dataclasses.replace(spec, layout=layout, name=layout if spec.name == "auto" else spec.name)
    if labels is not None:
        spec = dataclasses.replace(spec, labels=parse_labels(labels))
    if spec.layout == "msd":
        spec = _with_dataset_json(spec, source)
    given: dict[str, Any] = {
        "spacing": spacing, "size": size, "patient": patient, "channels": channels, "fit": fit or None,
        "grey": grey or None,
        "ignore": ignore, "sparse": sparse or None, "spacing_through": spacing_through, "series": series,
        "window": window,
    }  # fmt: skip
    if grey and channels is None:
        given["channels"] = 1
    spec = dataclasses.replace(spec, **{key: value for key, value in given.items() if value is not None})
    try:
        spec = _without_ignore(spec)
        _check(spec)
    except (ValueError, re.error) as error:
        raise UsageError(str(error)) from error
    return spec


def _without_ignore(spec: DatasetSpec) -> DatasetSpec:
    """The spec with the label that is named `ignore`, if there is one, as its `ignore`. Raises ValueError."""
    named = [value for value, name in spec.labels.items() if name.lower() == IGNORE_NAME]
    if not named:
        return spec
    if spec.ignore is not None:
        named = sorted({*named, spec.ignore})
    if len(named) > 1:
        both = " and ".join(map(str, named))
        raise ValueError(f"ignore: the label values {both} are to be ignored; one is possible")
    labels = {value: name for value, name in spec.labels.items() if value not in named}
    return dataclasses.replace(spec, labels=labels, ignore=named[0])


def _with_dataset_json(spec: DatasetSpec, source: Path) -> DatasetSpec:
    path, content = source / "dataset.json", read_dataset_json(source)
    channels = channels_of(path, content)
    return dataclasses.replace(
        spec,
        labels=spec.labels or labels_of(path, content),
        channels=len(channels),
        title=spec.title or str(content.get("name", "")),
        licence=spec.licence or str(content.get("licence", content.get("license", ""))),
        modality=spec.modality or ", ".join(channels.values()),
    )


def layout_of(spec: DatasetSpec, source: Path) -> str:
    """The layout that a spec names, or for `auto` that of the folder: `msd` where it has a dataset.json."""
    if spec.layout != "auto":
        return spec.layout
    return "msd" if (source / "dataset.json").is_file() else "folder"
