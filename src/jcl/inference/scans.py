"""Which scans there are to segment below a folder, and how their results are named."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jcl.data.datasets import load_spec, spec_names
from jcl.data.folders import refuse_label_folder, walk, without_roles
from jcl.data.layouts import Found, find_by_pattern
from jcl.data.leftout import LeftOut, unreadable
from jcl.data.pairing import Placed, labels_beside
from jcl.data.series_files import dicom_series
from jcl.data.sources import SUFFIXES, SliceFiles, Source, files_of, result_suffix, stem, suffix_of
from jcl.errors import DataError
from jcl.files import check_regular, real_path

__all__ = ["Scan", "find_scans"]


@dataclass(frozen=True)
class Scan:
    """A scan to segment: its name, and its images (one per channel, or a single one of several).

    `problem` says why it cannot be read, where its files show that already; `guessed` is whether nothing but the place
    of its file says that it is a scan.
    """

    name: str
    images: tuple[Source, ...]
    problem: str | None = None
    guessed: bool = False

    def target(self, out: Path) -> Path:
        """The file to write."""
        return out / f"{self.name}{result_suffix(self.images[0])}"

    def size(self) -> int:
        """Bytes of its files, by which it is foreseen how long the rest takes; at least 1."""
        paths = [path for image in self.images for path in files_of(image)]
        return 1 + sum(path.stat().st_size for path in paths if path.is_file())


def find_scans(
    source: Path, preparation: dict[str, Any], left_out: LeftOut, *, skip: Path, wanted: str | None = None
) -> list[Scan]:
    """The scans of a file or folder, sorted by name.

    All images below a folder are scans, but for labels: those in folders named so (see `folders.ROLES`), those that
    the data set of the preparation knows by their file names, and those beside their image (`p1_seg` and `p1`). With
    several channels, files that differ in a last number of four digits (nnU-Net's `_0000`, `_0001`, ...) are
    one scan. A scan is named by its path below the source, without folders named images.

    Args:
        source: the file or folder.
        preparation: of the training data: `dataset` and `channels`.
        left_out: where files that are not used are noted.
        skip: what lies in this folder is left out: earlier results, if it is below the source.
        wanted: of the DICOM series of a folder take those with this in their description (`jcl.data.series_choice`).

    Raises:
        DataError: there is no scan, or two would have one name; or no series is one of those wanted.
    """
    if source.is_file():
        return [_single(source, preparation["channels"], left_out)]
    check_regular(source)
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder; check its name")
    refuse_label_folder(source)
    named = _of_data_set(source, preparation["dataset"])
    known = {path for image in named.images.values() for part in image for path in files_of(part)}
    labels = {path for label in named.labels.values() for path in files_of(label)} - known
    scans = {name: Scan(name, images, named.problems.get(name)) for name, images in named.images.items()}
    others = _others(source, skip, known, labels, left_out)
    series = _series_in(source, others, left_out, wanted)
    images = _without_labels(source, [path for path in others if suffix_of(path)], series, left_out)
    for scan in [*_image_scans(source, images, preparation["channels"]), *series]:
        if scan.name in scans:
            raise DataError(
                f"{scan.images[0]}: its result would have the name of that of {scans[scan.name].images[0]}; "
                "rename one of them"
            )
        scans[scan.name] = scan
    if not scans:
        raise DataError(f"{source}: no images ({', '.join(SUFFIXES)}, DICOM) found{left_out.summary(source)}")
    return [scans[name] for name in sorted(scans)]


def _single(source: Path, channels: int, left_out: LeftOut) -> Scan:
    """The scan that one file is, or is a channel of.

    Raises:
        DataError: it is none; the message says what it is, as far as that is known.
    """
    if suffix_of(source):
        return _scan_of(source, channels)
    if scans := _series_in(source.parent, [source], left_out):
        return scans[0]
    found = unreadable(source)
    if found and not left_out.counted:
        raise DataError(f"{source}: not a scan that can be read: {found[0]}; {found[1]}")
    raise DataError(
        f"{source}: not a scan ({left_out.kinds()}); give an image ({', '.join(SUFFIXES)}) or a DICOM slice"
    )


def _image_scans(source: Path, paths: Sequence[Path], channels: int) -> list[Scan]:
    """Scans in image files; those of one folder that differ in the number of their channel are one."""
    groups: dict[tuple[Path, str], list[Path]] = {}
    for path in paths:
        name = _without_channel(path) if channels > 1 else path.name
        groups.setdefault((path.parent, name), []).append(path)
    scans: list[Scan] = []
    for (parent, _), images in groups.items():
        folders = without_roles(parent.relative_to(source).parts)
        name = _without_channel(images[0]) if channels > 1 else stem(images[0])
        scans.append(Scan("_".join([*folders, name]), tuple(images), guessed=True))
    return scans


def _series_in(source: Path, paths: Sequence[Path], left_out: LeftOut, wanted: str | None = None) -> list[Scan]:
    """Scans in DICOM series."""
    series = dicom_series(source, [path for path in paths if not suffix_of(path)], left_out, wanted)
    return [Scan(each.name, (SliceFiles(each.files[0].parent, each.files),), each.problem) for each in series]


def _without_labels(source: Path, paths: Sequence[Path], series: Sequence[Scan], left_out: LeftOut) -> list[Path]:
    """Those image files that are not the labels of others beside them."""
    placed = {path.as_posix(): Placed.below(source, path) for path in paths}
    folders = [scan.images[0].folder for scan in series if isinstance(scan.images[0], SliceFiles)]
    placed |= {folder.as_posix(): Placed.below(source, folder) for folder in folders if folder != source}
    left_out.count("labels beside their scans", len(labels_beside(placed, (), left_out)))
    return [each.path for each in placed.values() if each.path not in folders]


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
    return find_by_pattern(source, spec.images, spec.label, LeftOut())


def _others(source: Path, skip: Path, known: set[Path], labels: set[Path], left_out: LeftOut) -> list[Path]:
    """All other files below the source, in a fixed order: no labels, and no results."""
    results = real_path(skip)
    inside = results != real_path(source)
    others: list[Path] = []
    for path in walk(source, left_out):
        if inside and results in real_path(path).parents:
            left_out.count("files in the folder of the results")
        elif path in labels or Placed.below(source, path).is_label:
            left_out.count("labels")
        elif path not in known:
            others.append(path)
    return others
