"""Who may be labelled next: all whom a run was not trained on, and who are not held back to be tested."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jcl.data.store import Store
from jcl.errors import DataError
from jcl.training.initial_run import images_of, same_images, split_of
from jcl.training.logger import log_rank0

__all__ = ["Candidates", "find_candidates", "stores_of"]


@dataclass(frozen=True)
class Candidates:
    """Patients of a store, each list sorted.

    Attributes:
        open: who may be labelled next.
        known: whose labels a training has or can have: nobody needs to be labelled who is like them.
        held_back: who are tested or validated, or left out by the split of the run.
        trained: on whom a fine-tuning was trained, of the others.
        labelled: who of the rest are left out since they have labels.
    """

    open: tuple[str, ...]
    known: tuple[str, ...]
    held_back: tuple[str, ...]
    trained: tuple[str, ...]
    labelled: tuple[str, ...]


def find_candidates(store: Store, runs: Sequence[tuple[Path, Mapping[str, Any]]], *, also_labelled: bool) -> Candidates:
    """Part the patients of a store.

    They are known by their names and, in another store than that of a run, by their images too.

    Args:
        store: whose patients are meant.
        runs: folder and `run.json` of each.
        also_labelled: whether those with labels may be among the open ones.

    Raises:
        DataError: what a run has recorded cannot be read.
    """
    patients = {record.patient for record in store.cases}
    labelled = {record.patient for record in store.cases if record.labelled}
    held, trained = set[str](), set[str]()
    for run, info in runs:
        some_held, some_trained = _of_run(store, run, info, patients)
        held |= some_held
        trained |= some_trained
    trained -= held
    labelled = set[str]() if also_labelled else labelled - held - trained
    parts = (patients - held - trained - labelled, trained | labelled, held, trained, labelled)
    return Candidates(*(tuple(sorted(part)) for part in parts))


def stores_of(run: Path, info: Mapping[str, Any]) -> list[tuple[Path, str]]:
    """Place and digest of the stores that a run was trained on; its split is of the first.

    Raises:
        DataError: they are not recorded.
    """
    try:
        if info["kind"] == "finetune":
            return [(Path(info["store"]), str(info["store_digest"]))]
        return [(Path(each["path"]), str(each["digest"])) for each in [info["stores"][0], *info["stores"][1:]]]
    except (IndexError, KeyError, TypeError) as error:
        raise DataError(f"{run / 'run.json'}: not what a training of jcl writes ({error}); restore it") from error


def _of_run(store: Store, run: Path, info: Mapping[str, Any], patients: set[str]) -> tuple[set[str], set[str]]:
    """Who of the patients is held back, and who was trained on with labels."""
    split = split_of(run)
    if split is None:
        return set(), set()
    other, digest = stores_of(run, info)[0]
    held = {*split.test, *split.validation}
    trained = set(split.train) if info["kind"] == "finetune" else set[str]()
    if digest != store.digest:
        return _likewise(store, other, run, held), _likewise(store, other, run, trained)
    if info["kind"] == "pretrain":
        held = patients - set(split.train)  # whom its split does not name, it leaves out as well
    return held & patients, trained & patients


def _likewise(store: Store, other: Path, run: Path, names: Collection[str]) -> set[str]:
    """Patients of a store who have these names, or of whom patients of these names have an image in another store."""
    found = {record.patient for record in store.cases if record.patient in names}
    try:
        with closing(Store.open(other)) as opened:
            images = images_of(record for record in opened.cases if record.patient in names)
    except DataError:
        if names:
            log_rank0(f"{other}: the store of {run} is not there: whom it tests is known by their names alone")
        return found
    return found | same_images(images_of(store.cases), images)
