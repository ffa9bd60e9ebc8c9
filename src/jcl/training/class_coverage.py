"""Which classes the training patients of a fine-tuning have: what is in none of them cannot be learned."""

from collections.abc import Collection

from jcl.data.store import Store
from jcl.errors import DataError
from jcl.training.logger import log_rank0

__all__ = ["check_classes"]


def check_classes(store: Store, patients: Collection[str]) -> None:
    """Say which classes none of the training patients has, and which only some of them have.

    Raises:
        DataError: none of them has a voxel of any class.
    """
    having = {name: _patients_with(store, number, patients) for number, name in enumerate(store.class_names)}
    if not any(having.values()):
        raise DataError(
            f"{store.path}: the labels of the {len(patients)} training patients are empty; train on patients that have "
            "structures (`jcl verify` counts them), or check the label values the store was prepared with"
        )
    for name in (name for name, found in having.items() if not found):
        elsewhere = any(record.labelled and dict(store.counted(n)).get(name) for n, record in enumerate(store.cases))
        way = (
            "take more --patients or another --split-seed" if elsewhere else "nor has any other: check its label value"
        )
        log_rank0(f"no training patient has {name}, so it will not be found: {way}")
    some = {name: found for name, found in having.items() if 0 < len(found) < len(patients)}
    if some:
        listed = ", ".join(f"{name} in {len(found)}" for name, found in some.items())
        log_rank0(f"not every one of the {len(patients)} training patients has every class: {listed}")


def _patients_with(store: Store, number: int, patients: Collection[str]) -> set[str]:
    return {r.patient for r in store.cases if r.labelled and r.patient in patients and r.voxels[number]}
