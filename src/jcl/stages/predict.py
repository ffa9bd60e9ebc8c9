"""Prediction: new scans in, segmentations with their geometry and format out."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from jcl.config import PredictConfig
from jcl.data.datasets import load_spec, spec_names
from jcl.data.imagefile import WriteError, write_error
from jcl.data.layouts import Found, dicom_series, find_by_pattern, walk
from jcl.data.resampling import prepare_parts
from jcl.data.sources import SUFFIXES, Source, Stack, files_of, result_suffix, stem, suffix_of
from jcl.data.volumes import read_image, write_label
from jcl.device import resolve_device, resolve_precision
from jcl.errors import DataError, UsageError
from jcl.loading import load_trained
from jcl.progress import progress_bar
from jcl.segment import class_values, ready_to_segment, segment_parts

LABEL_FOLDERS = ("labels", "labelsTr", "labelsTs")
IMAGE_FOLDERS = ("images", "imagesTr", "imagesTs")


@dataclass(frozen=True)
class Scan:
    """A scan to segment: its name, and its images (one a channel, or a single one of several).

    `problem` says why it cannot be read, where its files show that already.
    """

    name: str
    images: tuple[Source, ...]
    problem: str | None = None

    def target(self, out: Path) -> Path:
        """The file to write."""
        return out / f"{self.name}{result_suffix(self.images[0])}"


def predict(config: PredictConfig) -> list[Path]:
    """Segment a scan, or every scan below a folder; returns the files written, named as the scans are.

    Each scan is prepared by the recipe that the run carries, segmented, and brought back to its own grid and
    orientation; the label values are those of the data set that the run was trained on. A scan that cannot be
    segmented is set aside, and the rest goes on.

    Raises:
        UsageError: the results would overwrite the scans.
        DataError: nothing to segment, a result cannot be written, or (after the rest is done) some scan could not be
            segmented.
    """
    network, info = load_trained(config.run)
    device = resolve_device(config.devices)
    precision = resolve_precision(config.precision, device)
    ready_to_segment(network, device, precision)
    recipe: dict[str, Any] = info["recipe"]
    scans = _find_scans(config.source, recipe, skip=config.out)
    _check_out(config.out, scans)
    written: list[Path] = []
    failures: list[str] = []
    with progress_bar("predict") as bar:
        task = bar.add_task("predict", total=len(scans), note="")
        for scan in scans:
            try:
                _segment(network, scan, recipe, config, device, precision)
                written.append(scan.target(config.out))
            except WriteError:
                raise  # no fault of this scan: the next would fail too
            except DataError as error:
                failures.append(str(error))
            bar.advance(task)
    for line in failures:
        print(f"set aside: {line}", file=sys.stderr)
    if failures:
        raise DataError(f"{len(failures)} of {len(scans)} scans could not be segmented (each is named above)")
    return written


def _find_scans(source: Path, recipe: dict[str, Any], *, skip: Path) -> list[Scan]:
    """The scans of a file or folder, sorted by name.

    All images below a folder are scans, but for those in folders named labels (labelsTr, labelsTs)
    and those that the data set of the recipe knows as labels by their file names. With several
    channels, files that differ in a last number of four digits (nnU-Net's `_0000`, `_0001`, ...) are
    one scan. A scan is named by its path below the source, without folders named images.

    Args:
        recipe: of the training data: `dataset` and `channels`.
        skip: what lies in this folder is left out: earlier results, if it is below the source.

    Raises:
        DataError: there is no scan, or two would have one name.
    """
    if source.is_file():
        return [_scan_of(source, recipe["channels"])] if suffix_of(source) else _series_in(source.parent, [source])
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder")
    named = _of_data_set(source, recipe["dataset"])
    known = {path for image in named.images.values() for part in image for path in files_of(part)}
    known |= {path for label in named.labels.values() for path in files_of(label)}
    scans = {name: Scan(name, images, named.problems.get(name)) for name, images in named.images.items()}
    others = _others(source, skip, known)
    for scan in [*_image_scans(source, others, recipe["channels"]), *_series_in(source, others)]:
        if scan.name in scans:
            raise DataError(
                f"{scan.images[0]}: its result would have the name of that of {scans[scan.name].images[0]}; "
                "rename one of them"
            )
        scans[scan.name] = scan
    if not scans:
        raise DataError(f"{source}: no images ({', '.join(SUFFIXES)}, DICOM) found")
    return [scans[name] for name in sorted(scans)]


def _image_scans(source: Path, paths: Sequence[Path], channels: int) -> list[Scan]:
    """Scans in image files; those of one folder that differ in the number of their channel are one."""
    groups: dict[tuple[Path, str], list[Path]] = {}
    for path in paths:
        if suffix_of(path):
            name = _without_channel(path) if channels > 1 else path.name
            groups.setdefault((path.parent, name), []).append(path)
    scans: list[Scan] = []
    for (parent, _), images in groups.items():
        folders = [part for part in parent.relative_to(source).parts if part not in IMAGE_FOLDERS]
        name = _without_channel(images[0]) if channels > 1 else stem(images[0])
        scans.append(Scan("_".join([*folders, name]), tuple(images)))
    return scans


def _series_in(source: Path, paths: Sequence[Path]) -> list[Scan]:
    """Scans in DICOM series."""
    series = dicom_series(source, [path for path in paths if not suffix_of(path)])
    return [Scan(each.name, (Stack(each.files[0].parent, each.files),), each.problem) for each in series]


def _scan_of(path: Path, channels: int) -> Scan:
    """The scan that a single file is, or is one channel of."""
    name = _without_channel(path) if channels > 1 else stem(path)
    if name == stem(path):
        return Scan(name, (path,))
    siblings = sorted(other for other in path.parent.iterdir() if stem(other) and _without_channel(other) == name)
    return Scan(name, tuple(other for other in siblings if stem(other) != name))


def _without_channel(path: Path) -> str:
    return re.sub(r"_\d{4}$", "", stem(path))


def _of_data_set(source: Path, dataset: str) -> Found:
    """What is named as in the data set the run was trained on, if that names its files by a pattern."""
    spec = load_spec(dataset) if dataset in spec_names() else None
    if spec is None or spec.layout != "files":
        return Found()
    return find_by_pattern(source, spec.images, spec.label)


def _others(source: Path, skip: Path, known: set[Path]) -> list[Path]:
    """All other files below the source, in a fixed order."""
    results = skip.resolve()
    inside = results != source.resolve()
    return [
        path
        for path in walk(source)
        if path not in known
        and not set(path.relative_to(source).parts[:-1]) & set(LABEL_FOLDERS)
        and not (inside and results in path.resolve().parents)
    ]


def _check_out(out: Path, scans: list[Scan]) -> None:
    """Make the folder for the results, none of which may take the place of a scan."""
    sources = {path.resolve() for scan in scans for image in scan.images for path in files_of(image)}
    for scan in scans:
        if scan.target(out).resolve() in sources:
            raise UsageError(f"{scan.target(out)}: the result would overwrite this scan; choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(out, error) from error


def _segment(
    network: nn.Module,
    scan: Scan,
    recipe: dict[str, Any],
    config: PredictConfig,
    device: torch.device,
    precision: torch.dtype,
) -> None:
    """Segment one scan and write the result."""
    if scan.problem:
        raise DataError(scan.problem)
    volume = read_image(scan.images, channels=recipe["channels"])
    geometry = volume.geometry
    parts = prepare_parts(volume, recipe, max(1, config.batch_size))
    del volume  # from here on only `parts` has it, and drops it at its end
    classes = segment_parts(
        network, parts, recipe, geometry.shape, batch_size=config.batch_size, device=device, precision=precision
    )
    write_label(scan.target(config.out), class_values(recipe)[classes], geometry)
    if config.dicom_seg and isinstance(scan.images[0], Stack):
        from jcl.data.dicom.segmentation import write_segmentation

        write_segmentation(
            config.out / f"{scan.name}.dcm", geometry.turn_back(classes), scan.images[0].files, recipe["classes"]
        )
