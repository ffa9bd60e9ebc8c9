"""Batches of slices: what they hold, in which order they come, and the loader that reads them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from jcl.data.store import Store
from jcl.errors import DataError


@dataclass(frozen=True)
class SliceBatch:
    """Slices of one store.

    Raises nothing by itself; `labels` is None where only images were asked for.
    """

    images: Float[Tensor, "b c h w"]
    positions: Float[Tensor, " b"]
    """Relative position (i + 1) / D of each slice in its volume."""
    volumes: Int[Tensor, " b"]
    """Number of each slice's case in the store."""
    labels: Int[Tensor, "b h w"] | None = None

    def to(self, device: torch.device | str) -> "SliceBatch":
        """The same batch on another device."""
        moved = {name: value.to(device, non_blocking=True) for name, value in vars(self).items() if value is not None}
        return replace(self, **moved)


@dataclass(frozen=True)
class SliceIndex:
    """One slice of one of several stores."""

    store: int
    case: int
    slice: int


def list_slices(stores: Sequence[Store], patients: Sequence[set[str] | None], *, labelled: bool) -> list[SliceIndex]:
    """All slices of the given patients (None: of everyone), in the order of the stores.

    Raises:
        DataError: there is none.
    """
    slices = [
        SliceIndex(number, case, position)
        for number, (store, chosen) in enumerate(zip(stores, patients, strict=True))
        for case, record in enumerate(store.cases)
        if (chosen is None or record.patient in chosen) and (record.labelled or not labelled)
        for position in range(record.slices)
    ]
    if not slices:
        kind = "labelled slices" if labelled else "slices"
        raise DataError(f"{', '.join(str(store.path) for store in stores)}: no {kind} of the chosen patients")
    return slices


class BatchOrder(Sampler[list[int]]):
    """Shuffled batches without end, each from one store, from step `start` on.

    Epoch e is shuffled by (seed, e) alone, so the order does not depend on how often a run was
    interrupted. The last incomplete batch of each store is dropped; a store with fewer slices than a
    batch gives one smaller batch.
    """

    def __init__(self, stores: Sequence[int], batch_size: int, *, seed: int, start: int = 0) -> None:
        self.groups = [np.flatnonzero(np.equal(stores, number)) for number in sorted(set(stores))]
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.batches_per_epoch = sum(max(1, len(group) // batch_size) for group in self.groups)

    def epoch(self, number: int) -> list[list[int]]:
        """The batches of one epoch."""
        random = np.random.default_rng((self.seed, number))
        batches: list[list[int]] = []
        for group in self.groups:
            order = random.permutation(group)
            count = max(1, len(order) // self.batch_size)
            batches += [order[i * self.batch_size : (i + 1) * self.batch_size].tolist() for i in range(count)]
        return [batches[i] for i in random.permutation(len(batches))]

    def __iter__(self) -> Iterator[list[int]]:
        number, skip = divmod(self.start, self.batches_per_epoch)
        while True:
            yield from self.epoch(number)[skip:]
            number, skip = number + 1, 0


class Slices(Dataset[dict[str, Any]]):
    """Reads slices of stores; what a loader's workers hold."""

    def __init__(self, stores: Sequence[Store], slices: Sequence[SliceIndex], *, labels: bool) -> None:
        self.stores = tuple(stores)
        self.slices = tuple(slices)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        where = self.slices[index]
        store = self.stores[where.store]
        item: dict[str, Any] = {
            "images": store.image(where.case, where.slice),
            "positions": np.float32((where.slice + 1) / store.cases[where.case].slices),
            "volumes": where.case,
        }
        if self.labels:
            item["labels"] = store.label(where.case, where.slice)
        return item


def collate(items: Sequence[dict[str, Any]]) -> SliceBatch:
    """Items of `Slices` as one batch."""
    labels = [item["labels"] for item in items if "labels" in item]
    return SliceBatch(
        images=torch.from_numpy(np.stack([item["images"] for item in items])),
        positions=torch.tensor(np.array([item["positions"] for item in items])),
        volumes=torch.tensor([item["volumes"] for item in items]),
        labels=torch.from_numpy(np.stack(labels)).long() if labels else None,
    )


def load_batches(slices: Slices, order: BatchOrder, *, workers: int = 0) -> Iterator[SliceBatch]:
    """Batches without end in the given order, which is the same with any number of workers."""
    loader: DataLoader[Any] = DataLoader(
        slices,
        batch_sampler=order,
        num_workers=workers,
        collate_fn=collate,
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=4 if workers else None,
    )
    return cast("Iterator[SliceBatch]", iter(loader))
