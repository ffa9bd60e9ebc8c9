"""One case from its files to its folder in a store; runs in worker processes."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8

from jcl.data import mask_folder, slicer
from jcl.data.cases import CaseSource
from jcl.data.datasets import DatasetSpec
from jcl.data.imagefile import voxel_file
from jcl.data.intensities import outside, window_of
from jcl.data.labelmaps import refuse_label_map
from jcl.data.manifest import IGNORE
from jcl.data.modality import modality_of
from jcl.data.notes import noted
from jcl.data.resampling import check_room, fit_of, prepare_volume, resample_label
from jcl.data.sources import LabelSource, Structures, files_of, suffix_of
from jcl.data.store import CASES, CaseRecord, SkippedCase
from jcl.data.store_writing import read_case, write_case
from jcl.data.through_plane import resample_label_through, through_of
from jcl.data.volumes import Volume, label_values, map_labels, read_label, read_scan
from jcl.errors import DataError, UsageError
from jcl.files import WriteError, check_regular, read_error

__all__ = ["Job", "died", "find_label_values", "make_preparation", "prepare_case"]


@dataclass(frozen=True)
class Job:
    """A case to prepare: its files below `source`, the store `out`, and how."""

    source: Path
    out: Path
    files: CaseSource
    preparation: dict[str, Any]


def make_preparation(spec: DatasetSpec, labels: Mapping[int, str], *, size_given: bool) -> dict[str, Any]:
    """All that decides what is in a store, as plain values.

    Keys: `dataset`, `title`, `modality`, `licence`; `channels`, and `grey` where of colours the brightness is taken;
    `spacing` (mm, or None: as it is); `size` (or None) and `size_fixed` (whether a larger slice is refused, or the size
    grows); `fit`, where each slice is brought to that size; `spacing_through` (mm), where volumes are resampled through
    their plane; `normalisation`, `clip`, and `window` where two values take the place of percentiles; `labels` (value
    in the files -> name), `other_labels`, and where voxels may be ignored `ignore` (the value of such ones) or
    `sparse`; `classes`, the names in the order of the store, and `class_values`, the value of each in the files;
    `patient`; `series`, where some DICOM series were chosen.
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
        **({"grey": True} if spec.grey else {}),
        **({"spacing_through": spec.spacing_through} if spec.spacing_through is not None else {}),
        **({"window": list(spec.window)} if spec.window is not None else {}),
        **({"series": spec.series} if spec.series is not None else {}),
        **({"ignore": spec.ignore} if spec.ignore is not None else {}),
        **({"sparse": True} if spec.sparse else {}),
    }


def find_label_values(files: CaseSource) -> tuple[int | str, ...]:
    """Values in the label of a case, or the names of its structures.

    None if there is no label, or if it cannot be read, which is reported later.
    """
    try:
        with noted():  # which are made again when the case is prepared
            if isinstance(files.label, Structures):
                return _names_in(files.label)
            return label_values(files.label) if files.label else ()
    except WriteError:
        raise
    except DataError:
        return ()


def _names_in(label: Structures) -> tuple[str, ...]:
    """Of the structures in a file or folder."""
    if label.masks:
        return mask_folder.structure_names(label)
    if suffix_of(label.path):
        return slicer.structure_names(label.path)
    from jcl.data.dicom.structures import structure_names  # not above: loading pydicom takes long

    return structure_names(label.path)


def prepare_case(job: Job) -> CaseRecord | SkippedCase:
    """Prepare one case, or find that it is there already and undamaged.

    Raises:
        WriteError: the disk is full.
        UsageError: the case is there, but was made of other files.
    """
    files = job.files
    if files.problem:
        return SkippedCase(files.case, files.patient, _below(files.problem, job.source))
    try:
        source = _digests(job)
        done = read_case(job.out / CASES / files.case)
        if done is None or done.patient != files.patient:  # a person's other scans may have come or gone
            return _prepare(job, source)
    except WriteError:
        raise
    except DataError as error:
        return SkippedCase(files.case, files.patient, _below(str(error), job.source))
    except MemoryError:
        return died(job, "needs more memory than there is; take fewer --workers")
    # stores of earlier releases have no digests of voxels beside a header
    if done.source != source and done.source != _digests(job, voxels=False):
        raise UsageError(f"{files.images[0]}: {job.out} has this case, made of other files; choose another --out")
    return done


def died(job: Job, reason: str) -> SkippedCase:
    """The case is skipped, though not for an error that its files gave."""
    return SkippedCase(job.files.case, job.files.patient, _below(f"{job.files.images[0]}: {reason}", job.source))


def _prepare(job: Job, source: dict[str, list[list[str]]]) -> CaseRecord:
    preparation, files = job.preparation, job.files
    with noted() as notes:
        volume = read_scan(files.images, preparation)
        try:
            check_room(volume, preparation, None)
            window = window_of(preparation)
            beyond = None if window is None else outside(volume.array, window)
        except DataError as error:
            raise DataError(f"{files.images[0]}: {error}") from error
        labels = _read_labels(files.label, volume, preparation) if files.label is not None else None
    if files.guessed and files.label is None:
        refuse_label_map(files.images[0], volume, job.source)
    image, spacing = prepare_volume(volume, preparation)
    height, width = image.shape[2:]
    if preparation["size_fixed"] and max(height, width) > preparation["size"]:
        raise DataError(
            f"{files.images[0]}: its slices have {height} x {width} pixels, more than the size {preparation['size']};"
            " grow --size or raise --spacing"
        )
    taken = None if image.shape[1] == volume.array.shape[1] else (volume.array.shape[1], volume.spacing[0])
    own = labels if taken else None
    if labels is not None:
        labels = resample_label_through(labels, volume.spacing[0], through_of(preparation))
    return write_case(
        job.out, image, labels, case=files.case, patient=files.patient,
        spacing=spacing, source=source, classes=len(preparation["classes"]),
        notes=[_below(line, job.source) for line in notes], taken=taken, taken_labels=own,
        direction=volume.geometry.slice_direction, modality=modality_of(files.images[0]), outside=beyond,
    )  # fmt: skip


def _read_labels(
    label: LabelSource, volume: Volume, preparation: Mapping[str, Any]
) -> UInt8[np.ndarray, "d H W"] | None:
    """The labels of a volume as classes, resampled in plane as it is; None where nobody has decided on any voxel."""
    classes = {int(value): preparation["classes"].index(name) + 1 for value, name in preparation["labels"].items()}
    if "ignore" in preparation:
        classes[preparation["ignore"]] = IGNORE
    mapped = map_labels(
        _read_values(label, volume, preparation), classes, other=preparation["other_labels"], path=label
    )
    if "sparse" in preparation:
        structures = (mapped > 0) & (mapped != IGNORE)
        mapped[~structures.any(axis=(1, 2))] = IGNORE
    if ("sparse" in preparation or "ignore" in preparation) and (mapped == IGNORE).all():
        return None
    return resample_label(mapped, volume.spacing, preparation["spacing"], fit_of(preparation))


def _read_values(label: LabelSource, volume: Volume, preparation: Mapping[str, Any]) -> Integer[np.ndarray, "d h w"]:
    """Label values, turned as the volume is; structures have the values that the preparation gives their names."""
    if not isinstance(label, Structures):
        if isinstance(label, Path) and suffix_of(label) == ".nrrd":
            slicer.check_values(label, {name: int(value) for value, name in preparation["labels"].items()})
        return read_label(label, volume)
    geometry = volume.geometry
    values = {name: int(value) for value, name in preparation["labels"].items()}
    if label.masks:
        found = mask_folder.read_structures(label, geometry.affine, geometry.size, values)
    elif suffix_of(label.path):
        found = slicer.read_structures(label.path, geometry.affine, geometry.size, values)
    else:
        from jcl.data.dicom.structures import read_structures  # see above

        found = read_structures(label.path, geometry.affine, geometry.size, values)
    return np.ascontiguousarray(geometry.turn(found))


def _digests(job: Job, *, voxels: bool = True) -> dict[str, list[list[str]]]:
    """Path below the source and sha256 of each file of a case, by `voxels` also of those that headers name."""
    sources = {"images": job.files.images, "label": (job.files.label,) if job.files.label else ()}
    return {
        role: _digest_each(
            (part for each in some for path in files_of(each) for part in _parts(path, voxels)), job.source
        )
        for role, some in sources.items()
    }


def _parts(path: Path, voxels: bool) -> tuple[Path, ...]:
    """A file, and that of its voxels, if its header names another."""
    beside = voxel_file(path) if voxels and suffix_of(path) == ".mhd" and path.is_file() else path
    return (path,) if beside == path else (path, beside)


def _digest_each(paths: Iterable[Path], source: Path) -> list[list[str]]:
    return [[path.relative_to(source).as_posix(), _sha256(path)] for path in paths]


def _sha256(path: Path) -> str:
    check_regular(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise read_error(path, error) from error


def _below(text: str, source: Path) -> str:
    """Paths as seen from the source folder, so that a store does not depend on where that was."""
    return text.replace(f"{source}{os.sep}", "")
