"""Whose slices or blocks a fine-tuning takes without their labels: everyone's but of those who are held back."""

from collections.abc import Sequence
from typing import Any

from jcl.config import FinetuneConfig
from jcl.data.alike import difference
from jcl.data.splits import Split
from jcl.data.store import Store
from jcl.errors import DataError
from jcl.training.feed import Feed, further_feed
from jcl.training.initial_run import images_of, same_images
from jcl.training.logger import log_rank0

__all__ = ["feed_without_labels", "unlabelled_record"]


def feed_without_labels(
    config: FinetuneConfig, store: Store, split: Split, stores: Sequence[Store]
) -> tuple[Feed, list[set[str]]]:
    """What they are, and the patients of each of the stores. No label is read, not even of those who have one.

    The patients of the store's test and validation parts are left out, and everyone else, in any of the stores and
    under any name, of whom one of their images is.

    Args:
        config: of the fine-tuning, with its block where it is one in three dimensions.
        store: with the labels that are learned.
        split: of its patients.
        stores: where slices or blocks are taken from; the store itself may be one of them.

    Raises:
        DataError: a store has slices of another size, number of channels or preparation, or nobody who may be taken.
    """
    held_back = {*split.test, *split.validation}
    images = images_of(record for record in store.cases if record.patient in held_back)
    patients = [_of(other, store, held_back if other.digest == store.digest else set(), images) for other in stores]
    fed = further_feed(config, stores, patients)
    count = sum(map(len, patients))
    places = ", ".join(str(other.path) for other in stores)
    log_rank0(f"without labels: {fed.words} of {count} patients of {places}")
    if all(o.digest == store.digest and p <= set(split.train) for o, p in zip(stores, patients, strict=True)):
        log_rank0("no patient beyond the labelled ones: their scans serve without labels too")
    return fed, patients


def unlabelled_record(stores: Sequence[Store], patients: Sequence[set[str]]) -> list[dict[str, Any]]:
    """What `run.json` records of them."""
    taken = zip(stores, patients, strict=True)
    return [{"path": str(store.path), "digest": store.digest, "patients": sorted(some)} for store, some in taken]


def _of(other: Store, store: Store, held_back: set[str], images: dict[str, frozenset[str]]) -> set[str]:
    """The patients of one of the stores who may be taken."""
    if (other.channels, other.size) != (store.channels, store.size):
        theirs, own = map(_shape, (other, store))
        raise DataError(f"{other.path}: its slices have {theirs}, those of {store.path} {own}; prepare it likewise")
    if apart := difference(other.preparation, store.preparation):
        raise DataError(f"{other.path}: is prepared with {apart} as {store.path} is; prepare it likewise")
    patients = {record.patient for record in other.cases} - held_back
    same = same_images({p: found for p, found in images_of(other.cases).items() if p in patients}, images)
    if same:
        log_rank0(f"{other.path}: {len(same)} patients left out, whose images are held back in {store.path}")
    if not patients - same:
        raise DataError(f"{other.path}: has no patient beside those who are held back; leave it out of --unlabelled")
    return patients - same


def _shape(store: Store) -> str:
    """Of its slices, for people."""
    channels = "1 channel" if store.channels == 1 else f"{store.channels} channels"
    return f"{channels} of {store.size[0]} x {store.size[1]} pixels"
