"""The cases of a data set: their files on disk, as its layout has them, and whose each is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jcl.data.datasets import DatasetSpec, layout_of
from jcl.data.folders import folded, refuse_label_folder
from jcl.data.layouts import find_by_pattern, find_in_folder, find_msd
from jcl.data.leftout import LeftOut
from jcl.data.sources import SUFFIXES, LabelSource, Source, files_of, suffix_of
from jcl.errors import DataError, UsageError

__all__ = ["CaseSource", "find_cases"]

BIDS_SUBJECT = re.compile(r"(?:^|_)(sub-[0-9A-Za-z]+)(?=_|$)")
"""Of a file by the Brain Imaging Data Structure; all sessions of a subject are one patient's."""


@dataclass(frozen=True)
class CaseSource:
    """The files of one volume: one image a channel (or a single one of several), and the label if there is one.

    `problem` says why it cannot be used, where its files show that before they are read.
    """

    case: str
    patient: str
    images: tuple[Source, ...]
    label: LabelSource | None
    problem: str | None = None
    guessed: bool = field(default=False, compare=False)


def find_cases(
    source: Path, spec: DatasetSpec, patient_regex: str | None = None, left_out: LeftOut | None = None
) -> list[CaseSource]:
    """The cases of a folder, sorted by name. An image without a label is an unlabelled case.

    Args:
        source: the folder.
        spec: see `resolve`.
        patient_regex: takes the place of `spec.patient`.
        left_out: where files that are not used are noted.

    Raises:
        DataError: there is no image, a label has no image, or two cases have one name.
        UsageError: the patient expression has no group or does not fit a case.
    """
    left_out = LeftOut() if left_out is None else left_out
    layout = layout_of(spec, source)
    if layout == "folder":
        refuse_label_folder(source)
    if layout == "msd":
        found = find_msd(source, left_out)
    elif layout == "files":
        found = find_by_pattern(source, spec.images, spec.label, left_out)
    else:
        found = find_in_folder(source, left_out, spec.series)
    if not found.images:
        kinds = f"{', '.join(SUFFIXES)}, DICOM"
        wanted = f"file matches {spec.images[0]}" if layout == "files" else f"image found ({kinds})"
        raise DataError(f"{source}: no {wanted}{left_out.summary(source)}")
    _check_labels(found.images, found.labels, left_out, source)
    _check_names(found.images)
    regex = patient_regex if patient_regex is not None else spec.patient
    return [
        CaseSource(
            case,
            _patient(case, regex, found.patients.get(case)),
            found.images[case],
            found.labels.get(case),
            found.problems.get(case) or _label_problem(found.labels.get(case)),
            guessed=layout != "files",
        )
        for case in sorted(found.images)
    ]


def _label_problem(label: LabelSource | None) -> str | None:
    if label is not None and any(suffix_of(path) in (".jpg", ".jpeg") for path in files_of(label)):
        return f"{label}: a JPEG, which changes the label values where it packs them; save the labels again as PNG"
    return None


def _check_labels(
    images: Mapping[str, tuple[Source, ...]], labels: Mapping[str, LabelSource], left_out: LeftOut, source: Path
) -> None:
    for case, label in sorted(labels.items()):
        if case not in images:
            raise left_out.no_image(files_of(label)[0], source)


def _check_names(images: Mapping[str, tuple[Source, ...]]) -> None:
    names: dict[str, str] = {}
    for case in sorted(images):
        path = images[case][0]
        if not case or case.startswith("."):
            raise DataError(f"{path}: the case name {case!r} cannot name a folder; rename the file")
        # A file system may not distinguish these, and a store has a folder per case.
        other = names.setdefault(folded(case), case)
        if other != case:
            how = "upper and lower case" if other.casefold() == case.casefold() else "the Unicode form of its accents"
            raise DataError(f"{path}: its case name differs from {other} in {how} only; rename one")


def _patient(case: str, regex: str | None, known: str | None) -> str:
    """The patient of a case: what the expression finds in its name, else what its files say, else its name.

    In a name by BIDS (`sub-01_ses-2_T1w`) the patient is the subject.
    """
    if regex is None:
        subject = BIDS_SUBJECT.search(case)
        return known or (subject[1] if subject else case)
    try:
        compiled = re.compile(regex)
    except re.error as error:
        raise UsageError(f"patient: {regex!r} is not a regular expression ({error})") from error
    if compiled.groups < 1:
        raise UsageError(f"patient: {regex!r} has no group; put the part that names the patient in (brackets)")
    match = compiled.search(case)
    if match is None or not match.group(1):
        raise UsageError(f"patient: {regex!r} finds no patient in the case name {case!r}; correct --patient")
    return match.group(1)
