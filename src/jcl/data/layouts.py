"""Where the images and labels of a data set lie: three layouts, each a function from a folder to its files."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from jcl.data.datasetjson import NUMBER, file_ending, grouped, listed_cases, read_dataset_json
from jcl.data.dicom.file import may_be_dicom
from jcl.data.folders import IMAGE, LABEL, folded, role_of, walk
from jcl.data.imagefile import has_named_segments
from jcl.data.leftout import LeftOut
from jcl.data.pairing import Placed, case_name, labels_beside, mask_folders, pair
from jcl.data.series_choice import choose_series
from jcl.data.series_files import case_of_series, common_folder, dicom_series, holds_structures, search_folder
from jcl.data.sources import LabelSource, SliceFiles, Source, Structures, stem, suffix_of
from jcl.errors import DataError

if TYPE_CHECKING:
    from jcl.data.dicom.series import DicomSeries

__all__ = ["Found", "find_by_pattern", "find_in_folder", "find_msd"]

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
    labels: dict[str, LabelSource] = field(default_factory=dict[str, LabelSource])
    patients: dict[str, str] = field(default_factory=dict[str, str])
    problems: dict[str, str] = field(default_factory=dict[str, str])


def find_in_folder(source: Path, left_out: LeftOut, series: str | None = None) -> Found:
    """Files below folders named labels are labels; else images, only those below folders named images if there are any.

    What names such folders have, `folders.ROLES` says, and which label belongs to which image, `pairing`. A case is
    named by its path without those folders, parts joined by `_`. DICOM files are grouped into series (see
    `jcl.data.dicom`), of which `series` may take some (see `jcl.data.series_choice`).

    Raises:
        DataError: a case name occurs twice, a label has no image, or no series is one of those wanted.
    """
    found = Found()
    unknown: list[Path] = []
    images: dict[str, Placed] = {}
    labels: list[Placed] = []
    files = [Placed.below(source, path) for path in walk(source, left_out)]
    has_image_folder = any(_of_training_images(placed) for placed in files)
    for placed in files:
        if not placed.is_label and has_image_folder and not _of_training_images(placed):
            left_out.count("files outside of the folders of training images")
        elif not suffix_of(placed.path) and placed.is_label:
            if holds_structures(placed.path):
                unknown.append(placed.path)
            else:
                _not_read(placed.path, left_out)
        elif not suffix_of(placed.path):
            unknown.append(placed.path)
        elif placed.is_label:
            labels.append(placed)
        else:
            _add(images, case_name(placed), placed.path, placed)
    searched = search_folder(source, unknown, left_out)
    taken = choose_series(source, searched.series if searched else (), series, left_out)
    in_folder = Counter(common_folder(each.files) for each in taken)
    series_of: dict[str, DicomSeries] = {}
    for each in taken:
        folder = common_folder(each.files)
        case = case_of_series(folder.relative_to(source).parts, each.name, alone=in_folder[folder] == 1)
        _add(images, case, folder, Placed.below(source, folder))
        series_of[case] = each
    pairs, alone = pair(images, labels)
    masks, alone = mask_folders(images, pairs, alone)
    if images:
        _check_alone(alone, pairs, left_out, source)
    left_out.count("labels", 0 if images else len(alone))
    pairs |= labels_beside(images, pairs, left_out)
    found.labels.update({case: label.path for case, label in pairs.items()} | masks)
    if masks:
        left_out.used("folders of masks, one a structure", [label.path for label in masks.values()], source)
    found.labels.update({case: _by_name(label) for case, label in found.labels.items()})
    for case, placed in images.items():
        if one := series_of.get(case):
            found.images[case] = (SliceFiles(placed.path, one.files),)
            found.patients[case] = one.patient
            if one.problem:
                found.problems[case] = one.problem
        else:
            found.images[case] = (placed.path,)
    for path, kind in searched.structures if searched else ():
        _add_structures(found, path, kind, {case: one.uid for case, one in series_of.items()}, left_out)
    return found


def _by_name(label: LabelSource) -> LabelSource:
    """A label as structures, if its file names them: values are another structure's in another file."""
    if isinstance(label, Path) and suffix_of(label) == ".nrrd" and has_named_segments(label):
        return Structures(label)
    return label


def _add_structures(found: Found, path: Path, kind: str, series: Mapping[str, str], left_out: LeftOut) -> None:
    """Make a file of structures the label of the case whose series it names."""
    from jcl.data.dicom.structures import referenced_series  # not above: loading pydicom takes long

    try:
        uid = referenced_series(path)
    except DataError:
        left_out.name(f"{kind} that cannot be read; copy it again", path)
        return
    cases = [case for case, other in series.items() if uid and other == uid]
    if len(cases) != 1:
        where = "of which there are several volumes here" if cases else "that is not here"
        left_out.name(f"{kind} of a series {where}", path)
    elif cases[0] in found.labels:
        found.problems[cases[0]] = f"{path}: a second label of its series, beside {found.labels[cases[0]]}; leave one"
    else:
        found.labels[cases[0]] = Structures(path)


def _not_read(path: Path, left_out: LeftOut) -> None:
    """Note a file that is no image file, in a place where series are not looked for."""
    if may_be_dicom(path):
        left_out.name("DICOM is not read in this place; convert it to .nii.gz", path)
    else:
        left_out.unused(path)


def _of_training_images(placed: Placed) -> bool:
    roles = (role_of([name]) for name in placed.folders)
    return not placed.is_label and any(role is not None and role.kind == IMAGE and role.trains for role in roles)


def _check_alone(alone: Sequence[Placed], pairs: Mapping[str, Placed], left_out: LeftOut, source: Path) -> None:
    """A label without an image is refused, unless its folder says that its images are not those of a store."""
    for label in alone:
        if label.role is not None and not label.role.trains:
            left_out.count(f"labels of the {label.role.part} part")
            continue
        other = next((each.path for case, each in pairs.items() if folded(case) == folded(case_name(label))), None)
        if other is not None:
            raise DataError(f"{label.path}: a second label of the image that {other} belongs to; remove one of them")
        raise left_out.no_image(label.path, source)


def find_by_pattern(source: Path, patterns: Sequence[str], label: str | None, left_out: LeftOut) -> Found:
    """Files whose path below the source matches an expression; its group `case` names the case.

    The pattern decides what a case is, and whose: patient IDs of published DICOM files are often all the same.
    DICOM files of one case are its series; label files of one case beside a series are its slices, of
    which the first by name belongs to the first file of the series by name.

    Args:
        patterns: one per channel.
        label: for label files.
        left_out: where files that match none are noted.

    Raises:
        DataError: two files make one case name, or a case lacks a channel.
    """
    channels: list[dict[str, list[Path]]] = [{} for _ in patterns]
    labels: dict[str, list[Path]] = {}
    for path in walk(source, left_out):
        text, used = path.relative_to(source).as_posix(), False
        for pattern, into in zip((*patterns, label), (*channels, labels), strict=True):
            match = re.fullmatch(pattern, text) if pattern else None
            if match:
                into.setdefault(match["case"].replace("/", "_"), []).append(path)
                used = True
        if not used:
            left_out.count("files that match no pattern")
    found = Found()
    for case in sorted({case for channel in channels for case in channel}):
        for pattern, channel in zip(patterns, channels, strict=True):
            if case not in channel:
                raise DataError(f"{source}: case {case} has no file that matches {pattern}")
        found.images[case] = tuple(_one_image(found, case, channel[case]) for channel in channels)
    for case, paths in labels.items():
        first = found.images.get(case, (paths[0],))[0]
        found.labels[case] = _label_stack(first, paths) if isinstance(first, SliceFiles) else _only(case, paths)
    return found


def find_msd(source: Path, left_out: LeftOut) -> Found:
    """Files in imagesTr and labelsTr, as in the Decathlon, or with a number per channel, as nnU-Net has them.

    A case that dataset.json names but whose image is not there is kept: reading it will say so.

    Raises:
        DataError: dataset.json cannot be read or used or names a file outside of the folder, a case name occurs
            twice, or a label has no image.
    """
    path, content = source / "dataset.json", read_dataset_json(source)
    ending = file_ending(path, content)
    found = Found()
    files: dict[str, list[Path]] = {IMAGE: [], LABEL: []}
    for file in walk(source, left_out):
        role = role_of(file.relative_to(source).parts[:1])
        if role is None or role.part != "training":
            left_out.count("files outside of imagesTr and labelsTr", file != path)
        elif not suffix_of(file):
            _not_read(file, left_out)
        elif ending is not None and not file.name.lower().endswith(ending):
            left_out.name(f'"file_ending" in dataset.json says {ending}', file)
        else:
            files[role.kind].append(file)
    listed = listed_cases(source, content)
    if "dataset" in content:
        used = {file for images, label in listed.values() for file in (*images, label)}
        left_out.count("files that dataset.json does not list", sum(f not in used for of in files.values() for f in of))
        labels = {case: label for case, (_, label) in listed.items() if label is not None}
        return Found({case: images for case, (images, _) in listed.items()}, dict(labels))
    for file in files[LABEL]:
        _add(found.labels, stem(file), file, file)
    images, problems = grouped(path, content, [(stem(file), file) for file in files[IMAGE]], found.labels)
    found.images.update(images)
    found.problems.update(problems)
    numbered = any(stem(of_case[0]) != case for case, of_case in images.items())
    for case, (of_case, _) in listed.items():
        name = NUMBER.sub("", case) if numbered else case
        if name not in found.images:
            found.images[name] = of_case
    _match_labels(found)
    return found


def _match_labels(found: Found) -> None:
    """Give labels the names of their cases where these differ in case or Unicode form only."""
    names = {folded(case): case for case in found.images}
    for case in [case for case in found.labels if case not in found.images and folded(case) in names]:
        found.labels[names[folded(case)]] = found.labels.pop(case)


def _one_image(found: Found, case: str, paths: list[Path]) -> Source:
    """The image of one channel: a file, or the one series that DICOM files make."""
    if suffix_of(paths[0]):
        return _only(case, paths)
    folder = common_folder(paths)
    series = dicom_series(folder, paths, LeftOut())
    if len(series) != 1:
        what = f"{len(series)} series" if series else "no image"
        found.problems[case] = f"{folder}: its DICOM files hold {what}, where one series is needed"
        return SliceFiles(folder, tuple(paths))
    if series[0].problem:
        found.problems[case] = series[0].problem
    return SliceFiles(folder, series[0].files)


def _label_stack(image: SliceFiles, paths: list[Path]) -> Source:
    """Label slices in the order of the image's: both were numbered alike, whatever way the numbers run."""
    folder = paths[0].parent
    if len(paths) != len(image.files):
        return SliceFiles(folder, tuple(sorted(paths)))  # reading it will say that the numbers differ
    by_name = sorted(range(len(paths)), key=lambda number: image.files[number].name)
    labels: dict[int, Path] = dict(zip(by_name, sorted(paths), strict=True))
    return SliceFiles(folder, tuple(labels[number] for number in range(len(paths))))


def _only(case: str, paths: list[Path]) -> Path:
    if len(paths) > 1:
        raise DataError(f"{paths[1]}: the case name {case} occurs twice; rename one of the files")
    return paths[0]


def _add(into: dict[str, Value], case: str, path: Path, value: Value) -> None:
    if case in into:
        raise DataError(f"{path}: the case name {case} occurs twice; rename one of the files")
    into[case] = value
