"""What is wrong with a store, or asks to be looked at: findings from its folder, its manifest and its census."""

import hashlib
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jcl.checks.alike_names import on_alike_names
from jcl.checks.census import CaseCensus, looks_sparse
from jcl.checks.duplicates import connected, similar_pairs
from jcl.checks.findings import ERROR, NOTE, Finding, name_some
from jcl.checks.lone_classes import on_lone_classes
from jcl.checks.mixed_intensities import on_mixed_modalities, on_mixed_units
from jcl.checks.mixed_planes import on_mixed_planes
from jcl.data.dicom.file import may_be_dicom
from jcl.data.folders import walk
from jcl.data.manifest import REPAIR_HINT, CaseRecord, as_entry, read_sealed
from jcl.data.sources import suffix_of
from jcl.data.store import CASES, PLAN, Store
from jcl.errors import DataError
from jcl.files import NO_FILE, check_regular, read_error

__all__ = ["StoreCheck", "check_folder", "check_source", "check_unused", "inspect_census", "inspect_manifest"]

SPACING_FACTOR = 1.5
"""A spacing so many times the set's median, or that fraction of it, is reported."""

SLICES_FACTOR = 2.0
"""The same for the number of slices."""

VOLUME_FACTOR = 5.0
"""The same for the volume of a class: hearts and livers of adults differ by less."""


@dataclass(frozen=True)
class StoreCheck:
    """What was found in a store; `census` has an entry for each of its cases."""

    store: Store
    census: Sequence[CaseCensus]
    findings: Sequence[Finding]


def inspect_manifest(store: Store) -> list[Finding]:
    """Check the folder against the manifest, and the manifest's entries by themselves; nothing large is read.

    Raises:
        DataError: the store's folder cannot be listed.
    """
    return [
        *_check_plan(store),
        *_check_cases_folder(store),
        *(finding for record in store.cases for finding in _check_record(store, record)),
        *_check_outliers(store),
        *_check_names(store),
        *_check_mixed(store),
        *(Finding(NOTE, "read", line, (record.case,)) for record in store.cases for line in record.notes),
        *(Finding(NOTE, "refused", f"skipped when prepared: {r.reason}", (r.case,)) for r in store.skipped),
    ]


def inspect_census(store: Store, census: Sequence[CaseCensus]) -> list[Finding]:
    """Check what was counted: damaged files, labels, and the same image twice."""
    damaged = [
        Finding(ERROR, "missing" if ": missing;" in line else "damaged", line, (each.record.case,))
        for each in census
        for line in each.damage
    ]
    return [*damaged, *_check_counts(store, census), *_check_labels(store, census), *_check_duplicates(store, census)]


def check_folder(store: Store, record: CaseRecord) -> list[Finding]:
    """Check a case's own record, and that nothing else lies beside it."""
    folder = store.path / CASES / record.case
    if not folder.is_dir():
        return []  # reported by the census
    found: list[Finding] = []
    try:
        kept = {
            key: value for key, value in read_sealed(folder / "case.json").items() if key not in ("format", "digest")
        }
        if kept != json.loads(json.dumps(as_entry(record))):
            text = f"{folder / 'case.json'}: is not what the store's manifest says of the case; {REPAIR_HINT}"
            found.append(Finding(ERROR, "damaged", text, (record.case,)))
    except DataError as error:
        found.append(Finding(ERROR, "damaged", str(error), (record.case,)))
    extra = sorted({path.name for path in _list(folder)} - {"case.json", *record.digests})
    return found + [
        Finding(ERROR, "stray", f"{folder / name}: the manifest knows nothing of it; remove it", (record.case,))
        for name in extra
    ]


def check_source(record: CaseRecord, source: Path) -> list[Finding]:
    """Compare the files that a case was made of with what lies below `source` now."""
    found: list[Finding] = []
    for path, digest in (entry for files in record.source.values() for entry in files):
        try:
            check_regular(source / path)
            with (source / path).open("rb") as file:
                same = hashlib.file_digest(file, "sha256").hexdigest() == digest
            problem = "" if same else "has changed since the store was made; restore it, or prepare into a new store"
        except OSError as error:
            problem = f"cannot be read ({error.strerror or error}); restore it, or name the right --source"
        except DataError:
            problem = f"{NO_FILE}; restore it"
        if problem:
            found.append(Finding(ERROR, "source", f"{source / path}: {problem}", (record.case,)))
    return found


def check_unused(store: Store, source: Path) -> list[Finding]:
    """Note the scans and labels below `source` that no case was made of: of skipped cases, left out, or new."""
    used = {name for record in store.cases for files in record.source.values() for name, _ in files}
    names = [path.relative_to(source).as_posix() for path in walk(source) if suffix_of(path) or may_be_dicom(path)]
    unused = [name for name in names if name not in used]
    if not unused:
        return []
    text = f"{source}: {len(unused)} image files are in no case, as those of {len(store.skipped)} skipped cases: "
    return [Finding(NOTE, "source", text + name_some(unused))]


def _check_plan(store: Store) -> list[Finding]:
    path = store.path / PLAN
    try:
        planned = read_sealed(path).get("recipe")
    except DataError as error:
        return [Finding(ERROR, "damaged", str(error) if REPAIR_HINT in str(error) else f"{error}; {REPAIR_HINT}")]
    if planned != {key: value for key, value in store.preparation.items() if key != "padded"}:
        return [
            Finding(
                ERROR, "damaged", f"{path}: has other preparation settings than the manifest; prepare into a new store"
            )
        ]
    return []


def _check_cases_folder(store: Store) -> list[Finding]:
    folder, found = store.path / CASES, list[Finding]()
    skipped = {entry.case for entry in store.skipped}
    if not folder.is_dir():
        return []  # every case is reported as missing
    for name in sorted({path.name for path in _list(folder)} - {record.case for record in store.cases}):
        if name.startswith("."):
            text = "begun by a `jcl prepare` that was killed; the same command clears it away"
            found.append(Finding(NOTE, "stray", f"{folder / name}: {text}"))
        elif name in skipped:
            text = "is left of a case that was skipped later; remove it"
            found.append(Finding(NOTE, "stray", f"{folder / name}: {text}", (name,)))
        else:
            found.append(Finding(ERROR, "stray", f"{folder / name}: the manifest knows no such case; remove it"))
    return found


def _list(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise read_error(folder, error) from error


def _check_record(store: Store, record: CaseRecord) -> list[Finding]:
    """Errors in what the manifest says: one of them would give a wrong position or distance without a word."""
    height, width = record.shape
    problems = {
        f"its spacing is {record.spacing} mm": not all(math.isfinite(s) and s > 0 for s in record.spacing),
        f"has {record.slices} slices of {height} x {width} pixels": record.slices < 1 or height < 1 or width < 1,
        f"its slices of {height} x {width} are larger than the store's": height > store.size[0]
        or width > store.size[1],
        f"has {len(record.scale)} channels, the store {store.channels}": len(record.scale) != store.channels,
    }
    folder = store.path / CASES / record.case
    remedy = "correct its source and prepare into a new store"
    return [
        Finding(ERROR, "geometry", f"{folder}: {text}; {remedy}", (record.case,))
        for text, is_so in problems.items()
        if is_so
    ]


def _check_outliers(store: Store) -> list[Finding]:
    measures: dict[str, tuple[Callable[[CaseRecord], float], str, float]] = {
        "through-plane spacing": (lambda record: record.spacing[0], "mm", SPACING_FACTOR),
        "row spacing": (lambda record: record.spacing[1], "mm", SPACING_FACTOR),
        "column spacing": (lambda record: record.spacing[2], "mm", SPACING_FACTOR),
        "number of slices": (lambda record: record.slices, "", SLICES_FACTOR),
    }
    return [
        finding
        for name, (measure, unit, factor) in measures.items()
        for finding in _outliers(store.path, "geometry", name, {r.case: measure(r) for r in store.cases}, unit, factor)
    ]


def _check_names(store: Store) -> list[Finding]:
    line = on_alike_names(store.preparation, store.cases)
    return [] if line is None else [Finding(NOTE, "patients", f"{store.path}: {line}")]


def _check_mixed(store: Store) -> list[Finding]:
    looks = {on_mixed_planes: "geometry", on_mixed_modalities: "intensity", on_mixed_units: "intensity"}
    found = [(kind, mixed) for look, kind in looks.items() if (mixed := look(store.cases)) is not None]
    return [Finding(NOTE, kind, f"{store.path}: {line}", cases) for kind, (line, cases) in found]


def _outliers(
    path: Path, kind: str, name: str, values: dict[str, float], unit: str, factor: float
) -> Iterable[Finding]:
    """A note that names the cases whose value is `factor` times the median, or that fraction of it."""
    usable = {case: value for case, value in values.items() if math.isfinite(value) and value > 0}
    if not usable:
        return
    median = statistics.median(usable.values())
    far = {case: value for case, value in usable.items() if not 1 / factor < value / median < factor}
    if far:
        shown = name_some([f"{case} ({value:.4g})" for case, value in far.items()])
        text = (
            f"{path}: {name} far from the median of {' '.join([f'{median:.4g}', unit]).strip()}: {shown}; look at them"
        )
        yield Finding(NOTE, kind, text, tuple(far))


def _check_counts(store: Store, census: Sequence[CaseCensus]) -> list[Finding]:
    found: list[Finding] = []
    for each in census:
        path, case = store.path / CASES / each.record.case, (each.record.case,)
        if each.voxels and each.voxels != each.record.voxels:
            counted = f"{each.voxels} voxels of its classes, the manifest says {each.record.voxels}"
            text = f"{path}: has {counted}; {REPAIR_HINT}"
            found.append(Finding(ERROR, "labels", text, case))
        if each.unknown:
            text = f"{path}: {each.unknown} voxels have a label that is not a class; prepare into a new store"
            found.append(Finding(ERROR, "labels", text, case))
        if any(channel.lowest == channel.highest for channel in each.channels):
            text = f"{path}: all pixels of a channel have one value; look at its source"
            found.append(Finding(NOTE, "intensity", text, case))
    return found


def _check_labels(store: Store, census: Sequence[CaseCensus]) -> list[Finding]:
    """Notes on what is labelled; a store without any labels is as it should be."""
    labelled = [each for each in census if each.record.labelled]
    if labelled and not any(any(each.record.voxels) for each in labelled):
        text = f"none of the {len(labelled)} labels has a voxel of a class, so that nothing can be learned from them"
        names = tuple(each.record.case for each in labelled)
        return [Finding(ERROR, "labels", f"{store.path}: {text}; correct them and prepare into a new store", names)]
    counted = [each for each in census if each.voxels]
    if not counted:
        return []
    found: list[Finding] = []

    def note(cases: Sequence[CaseCensus], text: str) -> None:
        names = [each.record.case for each in cases]
        if names:
            found.append(Finding(NOTE, "labels", f"{store.path}: {text}: {name_some(names)}", tuple(names)))

    note([each for each in census if not each.record.labelled], "cases without labels, so used for pre-training only")
    note([each for each in counted if not any(each.voxels)], "cases with labels that are empty; is that meant?")
    note(
        [each for each in counted if not each.ignored and looks_sparse(each.structures, each.record.slices)],
        "slices with structures have none beside them (if only those were labelled, prepare with --sparse)",
    )
    for number, name in enumerate(store.class_names):
        with_class = [each for each in counted if each.voxels[number]]
        if not with_class:
            text = f"{store.path}: no case has the class {name}; check the label values it was given"
            found.append(Finding(NOTE, "labels", text))
        elif len(with_class) > len(counted) / 2:
            note([e for e in counted if not e.voxels[number] and any(e.voxels)], f"cases that lack the class {name}")
        volumes = {each.record.case: each.millilitres[number] for each in with_class}
        found += _outliers(store.path, "labels", f"volume of {name}", volumes, "ml", VOLUME_FACTOR)
    for case, line in on_lone_classes(store.cases, store.class_names).items():
        found.append(Finding(NOTE, "labels", f"{store.path}: {line}", (case,)))
    return found


def _check_duplicates(store: Store, census: Sequence[CaseCensus]) -> list[Finding]:
    """The same image twice: equal slices by their digest, and what looks the same by thumbnails.

    Of equal ones, the first alone is compared further.
    """
    same: dict[bytes, list[CaseCensus]] = defaultdict(list)
    for each in census:
        if each.fingerprint is not None:
            same[each.fingerprint].append(each)
    found = [_same_image(store.path, group) for group in same.values() if len(group) > 1]
    single = [group[0] for group in same.values() if group[0].thumbnail is not None]
    if not single:
        return found
    thumbnails = np.stack([each.thumbnail for each in single])  # pyright: ignore[reportCallIssue, reportArgumentType]
    pairs = list(similar_pairs(thumbnails, [each.record.patient for each in single]))
    for group in connected([(a, b) for a, b, _ in pairs]):
        least = min(r for a, _, r in pairs if a in group)
        names = tuple(single[number].record.case for number in group)
        text = (
            f"{store.path}: different patients with nearly the same image, perhaps saved again or flipped "
            f"(correlation {least:.4f}): {name_some(names)}; look at them, and keep one"
        )
        found.append(Finding(NOTE, "similar", text, names))
    return found


def _same_image(path: Path, group: Sequence[CaseCensus]) -> Finding:
    names, patients = tuple(each.record.case for each in group), {each.record.patient for each in group}
    if len(patients) == 1:
        text = f"{path}: the same image more than once under one patient: {name_some(names)}; it counts that often"
        return Finding(NOTE, "duplicate", text, names)
    text = (
        f"{path}: the same image under {len(patients)} patients, so that it can be in training and test at once: "
        f"{name_some(names)}; remove all but one from the source, or give them one patient with --patient, "
        "and prepare into a new store"
    )
    return Finding(ERROR, "duplicate", text, names)
