"""One case from its files to its folder in a store; runs in worker processes."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jcl.data.datasets import CaseSource, DatasetSpec
from jcl.data.imagefile import WriteError
from jcl.data.resampling import fit_of, prepare_volume, resample_label
from jcl.data.sources import files_of
from jcl.data.store import CASES, CaseRecord, Refused, read_case, write_case
from jcl.data.volumes import label_values, map_labels, read_image, read_label
from jcl.errors import DataError, UsageError

__all__ = ["Job", "died", "find_label_values", "make_recipe", "prepare_case"]


@dataclass(frozen=True)
class Job:
    """A case to prepare: its files below `source`, the store `out`, and how."""

    source: Path
    out: Path
    files: CaseSource
    recipe: dict[str, Any]


def make_recipe(spec: DatasetSpec, labels: Mapping[int, str], *, size_given: bool) -> dict[str, Any]:
    """All that decides what is in a store, as plain values.

    Keys: `dataset`, `title`, `modality`, `licence`; `channels`; `spacing` (mm, or None: as it is);
    `size` (or None) and `size_fixed` (whether a larger slice is refused, or the size grows); `fit`, where
    each slice is brought to that size;
    `normalisation`, `clip`; `labels` (value in the files -> name), `other_labels`; `classes`, the
    names in the order of the store, and `class_values`, the value of each in the files; `patient`.
    A finished store has `padded` too, its (H, W).
    """
    classes = list(dict.fromkeys(labels.values()))
    first = {name: value for value, name in reversed(list(labels.items()))}
    return {
        "dataset": spec.name,
        "title": spec.title,
        "modality": spec.modality,
        "licence": spec.licence,
        "channels": spec.channels,
        "spacing": spec.spacing,
        "size": spec.size,
        "size_fixed": size_given,
        "normalisation": spec.normalisation,
        "clip": list(spec.clip),
        "labels": {str(value): name for value, name in labels.items()},
        "other_labels": spec.other_labels,
        "classes": classes,
        "class_values": [first[name] for name in classes],
        "patient": spec.patient,
        **({"fit": True} if spec.fit else {}),
    }


def find_label_values(files: CaseSource) -> tuple[int, ...]:
    """Values in the label of a case; none if there is none, or if it cannot be read (which is told later)."""
    try:
        return label_values(files.label) if files.label else ()
    except WriteError:
        raise
    except DataError:
        return ()


def prepare_case(job: Job) -> CaseRecord | Refused:
    """Prepare one case, or find that it is there already and undamaged.

    Raises:
        WriteError: the disk is full.
        UsageError: the case is there, but was made of other files.
    """
    files = job.files
    if files.problem:
        return Refused(files.case, files.patient, _below(files.problem, job.source))
    try:
        source = _digests(job)
        done = read_case(job.out / CASES / files.case)
        if done is None:
            return _prepare(job, source)
    except WriteError:
        raise
    except DataError as error:
        return Refused(files.case, files.patient, _below(str(error), job.source))
    except MemoryError:
        return died(job, "needs more memory than there is; take fewer --workers")
    if done.source != source:
        raise UsageError(f"{files.images[0]}: {job.out} has this case, made of other files; choose another --out")
    return done


def died(job: Job, reason: str) -> Refused:
    """The case is set aside, though not for an error that its files gave."""
    return Refused(job.files.case, job.files.patient, _below(f"{job.files.images[0]}: {reason}", job.source))


def _prepare(job: Job, source: dict[str, list[list[str]]]) -> CaseRecord:
    recipe, files = job.recipe, job.files
    volume = read_image(files.images, channels=recipe["channels"])
    image, spacing = prepare_volume(volume, recipe)
    height, width = image.shape[2:]
    if recipe["size_fixed"] and max(height, width) > recipe["size"]:
        raise DataError(
            f"{files.images[0]}: its slices have {height} x {width} pixels, more than the size {recipe['size']};"
            " grow --size or raise --spacing"
        )
    labels = None
    if files.label is not None:
        classes = {int(value): recipe["classes"].index(name) + 1 for value, name in recipe["labels"].items()}
        values = read_label(files.label, volume)
        mapped = map_labels(values, classes, other=recipe["other_labels"], path=files.label)
        labels = resample_label(mapped, volume.spacing, recipe["spacing"], fit_of(recipe))
    return write_case(
        job.out, image, labels, case=files.case, patient=files.patient,
        spacing=spacing, source=source, classes=len(recipe["classes"]),
    )  # fmt: skip


def _digests(job: Job) -> dict[str, list[list[str]]]:
    """Path below the source and sha256 of each file of a case."""
    sources = {"images": job.files.images, "label": (job.files.label,) if job.files.label else ()}
    return {
        role: _digest_each((path for source in some for path in files_of(source)), job.source)
        for role, some in sources.items()
    }


def _digest_each(paths: Iterable[Path], source: Path) -> list[list[str]]:
    return [[path.relative_to(source).as_posix(), _sha256(path)] for path in paths]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _below(text: str, source: Path) -> str:
    """Paths as seen from the source folder, so that a store does not depend on where that was."""
    return text.replace(f"{source}{os.sep}", "")
