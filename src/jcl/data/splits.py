"""Folds, nested few-label subsets and fixed splits, by patient.

Every split of a store is `draw_split`'s, for pre-training and fine-tuning alike, so that fold K means the same patients
to both: the folds are of those with labels, the only ones that can be tested.

Patients are ordered by a hash of seed, purpose and name, which is the same on every machine and for
every version of Python; subsets are prefixes of such an order, so a larger one holds the smaller.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from jcl.data import authors_folds
from jcl.errors import DataError, UsageError
from jcl.files import check_regular, check_seal, json_problem, read_error
from jcl.seal import sealed

__all__ = [
    "NO_FOLD",
    "Split",
    "check_split",
    "draw_split",
    "few_patients",
    "fold_count",
    "labelled_part",
    "make_split",
    "official_splits",
    "read_official_split",
    "read_split",
    "take_split",
    "write_split",
]

OFFICIAL = Path(__file__).parent / "official"
REPAIR = "restore it; a split of your own goes into another file, without a seal"

PARTS = ("train", "validation", "test")
NO_FOLD = "none"
"""In the place of a fold's number: everyone trains, and nobody is left out to be tested."""


@dataclass(frozen=True)
class Split:
    """Patients of each part; no patient is in two."""

    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


def draw_split(labelled: Mapping[str, bool], *, fold: int | str, folds: int | str = 5, seed: int = 0) -> Split:
    """The split of a store's patients, of which those with labels part into folds and all others train.

    Where nobody has labels, all part into folds. With fewer such patients than folds, each is a fold by itself.

    Args:
        labelled: patient -> whether a case of theirs has labels.
        fold: its number, from 0, or `NO_FOLD`.
        folds: how many there are; or `jcl.data.authors_folds.AUTHORS`, the five of the JCL authors, without a seed.
        seed: of their order.

    Raises:
        UsageError: the fold is out of range, or one patient alone could be tested, so that none would train; or a seed
            for the authors' folds.

    Examples:
        >>> draw_split({"a": True, "b": True, "c": False}, fold=0)
        Split(train=('a', 'c'), validation=(), test=('b',))
    """
    if isinstance(fold, str):
        if fold != NO_FOLD:
            raise UsageError(f"fold is {fold!r}; the number of a fold, or {NO_FOLD}, is needed")
        return Split(train=tuple(sorted(labelled)))
    parted = {patient for patient, has_labels in labelled.items() if has_labels} or set(labelled)
    if isinstance(folds, str):
        _check_authors(folds, seed)
        test = authors_folds.draw_fold(parted, fold)[1]
        return Split(train=tuple(sorted({*labelled} - set(test))), test=tuple(test))
    if len(parted) == 1 and folds > 1:
        (alone,) = parted
        kind = "with labels" if any(labelled.values()) else "there is"
        raise UsageError(
            f"{alone} is the only patient {kind}, so that none can be left out as fold {fold}; "
            f"give --fold {NO_FOLD}: all train, and none is tested"
        )
    split = make_split(parted, fold=fold, folds=min(folds, max(len(parted), 2)), seed=seed)
    return Split(train=tuple(sorted({*split.train, *labelled} - set(split.test))), test=split.test)


def labelled_part(split: Split, labelled: Mapping[str, bool]) -> Split:
    """The split without the training patients that have no labels: what can be fine-tuned on."""
    train = tuple(patient for patient in split.train if labelled.get(patient, False))
    return Split(train, split.validation, split.test)


def make_split(patients: Iterable[str], *, fold: int, folds: int = 5, seed: int = 0) -> Split:
    """Fold number `fold` (from 0) is the test part, all other patients train.

    The sizes of two folds differ by one at most. Doubled names count once.

    Raises:
        UsageError: the fold is out of range, or there are more folds than patients.

    Examples:
        >>> make_split(["a", "b", "c"], fold=0, folds=3)
        Split(train=('a', 'c'), validation=(), test=('b',))
    """
    unique = set(patients)
    if folds < 2:
        raise UsageError(f"folds is {folds}; at least 2 are needed, or --fold {NO_FOLD} to leave nobody out")
    if not 0 <= fold < folds:
        raise UsageError(f"fold is {fold}; with {folds} folds it has to be 0 to {folds - 1}")
    if folds > len(unique):
        raise UsageError(f"{folds} folds of {len(unique)} patients; take at most {len(unique)}")
    order = _order(unique, seed, "fold")
    test = order[fold::folds]
    return Split(train=tuple(sorted(unique - set(test))), test=tuple(sorted(test)))


def fold_count(folds: int | str) -> int:
    """How many folds there are, of which the setting may say `authors`."""
    return authors_folds.FOLDS if isinstance(folds, str) else folds


def few_patients(split: Split, count: int, seed: int = 0, *, folds: int | str = 5) -> Split:
    """The split with `count` of its training patients; a smaller count gives a subset of a larger one's.

    With the authors' `folds` they are those that the authors' program draws of the same fold, in its order; these do
    not nest in general.

    Raises:
        UsageError: `count` is below 1 or above the number of training patients.
    """
    if not 1 <= count <= len(split.train):
        raise UsageError(
            f"{count} patients asked for; the training part has {len(split.train)} with labels: take 1 to "
            f"{len(split.train)}"
            + (f", or --fold {NO_FOLD} to train on those to be tested as well" if split.test else "")
        )
    if isinstance(folds, str):
        return Split(tuple(authors_folds.draw_few(sorted(split.train), count)), split.validation, split.test)
    train = _order(split.train, seed, "few")[:count]
    return Split(tuple(sorted(train)), split.validation, split.test)


def _check_authors(folds: str, seed: int) -> None:
    if folds != authors_folds.AUTHORS:
        raise UsageError(f"folds is {folds!r}; a number, or {authors_folds.AUTHORS}, is needed")
    if seed:
        raise UsageError(f"split_seed is {seed}; the authors' folds have seeds of their own: leave it out")


def _order(patients: Iterable[str], seed: int, purpose: str) -> list[str]:
    def key(patient: str) -> str:
        # A name that is not UTF-8 (an old disk) still has its bytes.
        return hashlib.sha256(f"{seed}:{purpose}:{patient}".encode("utf-8", "surrogateescape")).hexdigest()

    return sorted(patients, key=key)


def take_split(path_or_name: Path, patients: Iterable[str]) -> Split:
    """The split in a file, or the fixed one of that name, checked against the patients of a store.

    Raises:
        DataError: the file cannot be used.
        UsageError: there is no such file or name, or the split does not fit the patients.
    """
    patients = set(patients)
    name = str(path_or_name)
    if path_or_name.exists() or path_or_name.suffix == ".json":
        split = read_split(path_or_name)
    elif name in official_splits():
        split = read_official_split(name, patients)
    else:
        raise UsageError(f"{name}: no such split file, and no fixed split of that name (`jcl splits` lists them)")
    check_split(split, patients)
    return split


def official_splits() -> list[str]:
    """Names of the fixed splits that come with the package: data set and number of labelled training patients.

    Those of the JCL authors begin with the data set; `ssl4mis_` are the ones that semi-supervised papers share.
    """
    names = [path.stem.rpartition("_") for path in OFFICIAL.glob("*.json")]
    return [f"{data_set}_{count}" for data_set, _, count in sorted(names, key=lambda name: (name[0], int(name[2])))]


def read_official_split(name: str, patients: Iterable[str] | None = None) -> Split:
    """A fixed split of the JCL authors (journal version) or of SSL4MIS, so that results can be compared with theirs.

    SSL4MIS (github.com/HiLab-git/SSL4MIS) lists 70 training patients of ACDC; the labelled ones are the first of them.

    Some name patients, some give ranks in the sorted list of all cases, which `patients` turns into names; without
    `patients` ranks are kept, as text.

    Raises:
        UsageError: ranks are given, and the store has another number of patients than the data set.
    """
    content = json.loads((OFFICIAL / f"{name}.json").read_text(encoding="utf-8"))
    count = content.pop("ranks", None)
    if count is None or patients is None:
        return Split(**{part: tuple(map(str, entries)) for part, entries in content.items()})
    names = sorted(patients)
    if len(names) != count:
        raise UsageError(
            f"{name}: its numbers count all {count} cases of the data set, this store has {len(names)}; "
            "prepare the whole training part"
        )
    return Split(**{part: tuple(names[rank] for rank in ranks) for part, ranks in content.items()})


def read_split(path: Path) -> Split:
    """A split file: {"train": [patients], "validation": [], "test": [patients]}; validation may be missing.

    Raises:
        DataError: it cannot be read, has other contents, is not as it was sealed, or a patient is in two parts.
    """
    check_regular(path)
    try:
        content: object = json.loads(path.read_bytes().decode("utf-8-sig", "surrogateescape"))
    except OSError as error:
        raise read_error(path, error) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON file ({json_problem(error)}); correct it") from error
    values = check_seal(path, cast("dict[str, Any]", content), REPAIR) if isinstance(content, dict) else {}
    if not {"train", "test"} <= set(values) <= set(PARTS):
        raise DataError(f"{path}: a split has the keys train, test and, if wanted, validation")
    for part, names in values.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in cast("list[Any]", names)):
            raise DataError(f"{path}: {part} has to be a list of patient names in quotes")
    split = Split(**{part: tuple(names) for part, names in values.items()})
    try:
        _check_parts(split)
    except UsageError as error:
        raise DataError(f"{path}: {error}") from error
    return split


def write_split(path: Path, split: Split) -> None:
    """Write a split file, whole or not at all, and sealed.

    Raises:
        DataError: the file cannot be written.
    """
    content = sealed({part: list(getattr(split, part)) for part in PARTS})
    temporary = path.with_name(f".{path.name}.part")
    try:
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        temporary.write_bytes(text.encode("utf-8", "surrogateescape"))
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error


def check_split(split: Split, patients: Iterable[str]) -> None:
    """Check that a split can be used with a store of these patients.

    Raises:
        UsageError: a patient is unknown, twice in a part or in two parts, or nobody trains.
    """
    _check_parts(split)
    known = set(patients)
    unknown = [patient for part in PARTS for patient in getattr(split, part) if patient not in known]
    if unknown:
        raise UsageError(f"the split names {_some(unknown)}, which the store does not have")
    if not split.train:
        raise UsageError("the split has no training patient")


def _check_parts(split: Split) -> None:
    seen: dict[str, str] = {}
    for part in PARTS:
        for patient in getattr(split, part):
            if patient in seen:
                where = f"twice in {part}" if seen[patient] == part else f"in both {seen[patient]} and {part}"
                raise UsageError(f"patient {patient} is {where}; leave it in one part")
            seen[patient] = part


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
