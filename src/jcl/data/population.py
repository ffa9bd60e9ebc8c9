"""Is there something to learn, and something to score? Checked on the manifest of a store, before the first step."""

from collections.abc import Iterable, Sequence

from jcl.data.store import Store
from jcl.errors import DataError

__all__ = ["LEAST_SLICES", "check_labelled", "check_slices", "check_to_score"]

LEAST_SLICES = 2
"""Pre-training compares slices with each other."""

SHOWN = 5


def check_labelled(store: Store) -> None:
    """Check that a store has something to learn: a labelled case, a class, and a voxel of one.

    Raises:
        DataError: it has not.
    """
    labelled = [number for number, record in enumerate(store.cases) if record.labelled]
    if not labelled:
        raise DataError(f"{store.path}: no labelled case; prepare it with labels to fine-tune on it")
    if not _has_voxel(store, labelled):
        raise DataError(
            f"{store.path}: none of its {len(labelled)} labels has a voxel of a class; look at the label files, and "
            "prepare them into a new store"
        )


def check_to_score(store: Store, cases: Sequence[int]) -> None:
    """Check that scores say something: that some case has a voxel of a class.

    Args:
        store: whose manifest is looked at.
        cases: numbers of the labelled cases to score.

    Raises:
        DataError: none has.
    """
    if not _has_voxel(store, cases):
        names = [store.cases[number].case for number in cases]
        shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        raise DataError(
            f"{store.path}: no test case has a labelled voxel ({shown}), so there is nothing to score; look at the "
            "label files (`jcl verify`), or test other patients"
        )


def check_slices(stores: Sequence[Store], slices: int) -> None:
    """Check that there are slices to compare.

    Args:
        stores: for the message.
        slices: how many are pre-trained on.

    Raises:
        DataError: there are too few.
    """
    if slices < LEAST_SLICES:
        raise DataError(
            f"{', '.join(str(store.path) for store in stores)}: {slices} slice to pre-train on, but pre-training "
            "compares slices with each other; prepare more scans"
        )


def _has_voxel(store: Store, cases: Iterable[int]) -> bool:
    return any(any(store.counted(number).values()) for number in cases)
