"""What `jcl prepare` says of the store that it made."""

from jcl.checks.alike_names import on_alike_names
from jcl.checks.census import count_labels, looks_sparse
from jcl.checks.findings import name_some
from jcl.checks.lone_classes import on_lone_classes
from jcl.checks.mixed_intensities import on_mixed_modalities, on_mixed_units
from jcl.checks.mixed_planes import on_mixed_planes
from jcl.data.store import Store
from jcl.data.suited import ct_window, one_spacing, suited

__all__ = ["summary"]

MOST_LOOKED_AT = 64
"""Labelled cases whose slices are looked at once more; sets of which only slices are labelled are small."""


def summary(store: Store) -> list[str]:
    """Lines that say what is in a store, which of two statements of a file was taken, and what was skipped."""
    slices = sum(record.slices for record in store.cases)
    labelled = sum(record.labelled for record in store.cases)
    patients = len({record.patient for record in store.cases})
    lines = [
        f"{store.path}: {len(store.cases)} cases ({labelled} with labels) of {patients} patients, "
        f"{slices} slices of {store.size[0]} x {store.size[1]} pixels"
    ]
    asked = store.preparation["size"]
    if asked is not None and asked < max(store.size):
        lines.append(f"the data set's size of {asked} was too small for some slices, and grew: nothing is cut off")
    lines.append(str(suited(store.cases)))
    looks = (one_spacing, ct_window)
    lines += [line for look in looks if (line := look(store.preparation, store.cases)) is not None]
    lines += _on_sparse_labels(store)
    if (line := on_alike_names(store.preparation, store.cases)) is not None:
        lines.append(f"note: {line}")
    for look in (on_mixed_planes, on_mixed_modalities, on_mixed_units):
        if (mixed := look(store.cases)) is not None:
            lines.append(f"note: {mixed[0]}")
    lines += [f"note: {line}" for line in on_lone_classes(store.cases, store.class_names).values()]
    lines += [f"note: {line}" for record in store.cases for line in record.notes]
    if store.skipped:
        lines.append(f"{len(store.skipped)} skipped:")
        lines += [f"  {entry.reason}" for entry in store.skipped]
    return lines


def _on_sparse_labels(store: Store) -> list[str]:
    """A line that says which slices count, or that the labels look as if only some did."""
    labelled = [number for number, record in enumerate(store.cases) if record.labelled][:MOST_LOOKED_AT]
    counts = {number: count_labels(store, number) for number in labelled}
    if "sparse" in store.preparation:
        decided = sum(len(each["structures"]) for each in counts.values())
        slices = sum(store.cases[number].slices for number in counts)
        first = f" of the first {len(counts)} labelled cases" if len(counts) == MOST_LOOKED_AT else ""
        return [f"labelled are {decided} of {slices} slices{first}; the others are left out of loss and scores"]
    sparse = [
        store.cases[number].case
        for number, each in counts.items()
        if not each["ignored"] and looks_sparse(each["structures"], store.cases[number].slices)
    ]
    if not sparse:
        return []
    return [
        f"{name_some(sparse, 5)}: slices with structures have none beside them; if the others were not labelled, "
        "prepare into another store with --sparse, else they train as background"
    ]
