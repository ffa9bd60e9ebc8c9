"""Batches of slices: what they hold, in which order they come, and the loader that reads them ahead."""

import bisect
import itertools
import math
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from jcl.data.context import span_of
from jcl.data.manifest import IGNORE
from jcl.data.neighbours import draw_neighbours
from jcl.data.store import Store
from jcl.errors import DataError

Redraw = Callable[[list[int], np.random.Generator], list[int]]
"""Exchanges some slices of a batch (their numbers) for others."""

AHEAD = 2
"""Batches that a thread has read, or has to read, while none is asked for."""


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
    depths: Int[Tensor, " b"] | None = None
    """D, the slices of each slice's volume; None where the positions are of no volumes."""
    neighbours: Float[Tensor, "b c h w"] | None = None
    """Another slice of each slice's volume, near to it (see `SliceDataset`)."""

    def to(self, device: torch.device | str) -> "SliceBatch":
        """The same batch on another device."""
        # elsewhere than with CUDA the copy may still be going on when the memory has the next batch
        later = torch.device(device).type == "cuda"
        moved = {name: value.to(device, non_blocking=later) for name, value in vars(self).items() if value is not None}
        return replace(self, **moved)

    def rows(self, numbers: Int[Tensor, " n"]) -> "SliceBatch":
        """A batch of the rows with these numbers, of which one may come more than once."""
        return replace(self, **{name: value[numbers] for name, value in vars(self).items() if value is not None})


@dataclass(frozen=True, slots=True)
class SliceIndex:
    """One slice of one of several stores."""

    store: int
    case: int
    slice: int


class SliceList:
    """All slices of some cases, in the order of the cases.

    Only the cases are held. An object for each slice would be one more for Python's garbage collector to go through,
    again and again together with the hundred thousand objects that PyTorch has.

    Args:
        cases: number of the store, number of the case in it, and its slices; no case twice.
        chosen: the numbers of the slices, of those cases (number of the store and of the case) that have not all.
    """

    def __init__(
        self,
        cases: Sequence[tuple[int, int, int]],
        chosen: Mapping[tuple[int, int], Sequence[int]] = MappingProxyType({}),
    ) -> None:
        self.cases = tuple(cases)
        self._chosen = chosen
        self._ends = list(itertools.accumulate(slices for _, _, slices in cases))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, number: int) -> SliceIndex:
        if not 0 <= number < len(self):
            raise IndexError(f"{len(self)} slices, none with number {number}")
        at = bisect.bisect_right(self._ends, number)
        store, case, slices = self.cases[at]
        within = number - self._ends[at] + slices
        chosen = self._chosen.get((store, case))
        return SliceIndex(store, case, within if chosen is None else chosen[within])

    def stores(self) -> Int[np.ndarray, " n"]:
        """Number of each slice's store."""
        return np.repeat([store for store, _, _ in self.cases], [slices for _, _, slices in self.cases])


def list_slices(stores: Sequence[Store], patients: Sequence[set[str] | None], *, labelled: bool) -> SliceList:
    """All slices of the given patients (None: of everyone), in the order of the stores.

    With `labelled` those whose voxels are all ignored are left out.

    Raises:
        DataError: there is none, or a label that has to be read is damaged.
    """
    cases = [
        (number, case, record.slices)
        for number, (store, chosen) in enumerate(zip(stores, patients, strict=True))
        for case, record in enumerate(store.cases)
        if (chosen is None or record.patient in chosen) and (record.labelled or not labelled)
    ]
    decided = {
        (number, case): _decided(stores[number], case)
        for number, case, _ in cases
        if labelled and stores[number].ignores
    }
    counted = [(number, case, len(decided.get((number, case), range(all_)))) for number, case, all_ in cases]
    slices = SliceList([entry for entry in counted if entry[2]], decided)
    if not len(slices):
        kind = "labelled slices" if labelled else "slices"
        raise DataError(f"{', '.join(str(store.path) for store in stores)}: no {kind} of the chosen patients")
    return slices


def _decided(store: Store, case: int) -> list[int]:
    """Slices of a case of which at least one voxel is not ignored."""
    content = store.content(case)
    return [n for n in range(store.cases[case].slices) if (store.label(case, n)[content] != IGNORE).any()]


class BatchSampler:
    """Shuffled batches without end, each from one store, from step `start` on.

    Epoch e is shuffled by (seed, e) alone, so the order does not depend on how often a run was
    interrupted. The last incomplete batch of each store is dropped; a store with fewer slices than a
    batch gives one smaller batch. With several processes a batch is that of all, `batch_size` slices for each, of
    which this one gets its part; a smaller batch is cut so that all have as many.

    Args:
        stores: number of each slice's store.
        batch_size: slices of a batch in each process.
        seed: of the order.
        start: batches that are left out.
        rank: number of this process.
        processes: how many there are.
        redraw: what each batch of all processes goes through, with randomness of its own.

    Raises:
        DataError: a store has fewer slices than there are processes.
    """

    def __init__(
        self,
        stores: Sequence[int] | Int[np.ndarray, " n"],
        batch_size: int,
        *,
        seed: int,
        start: int = 0,
        rank: int = 0,
        processes: int = 1,
        redraw: Redraw | None = None,
    ) -> None:
        numbers = np.asarray(stores)
        self.groups = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
        if min(map(len, self.groups)) < processes:
            raise DataError(f"a store has fewer slices than there are processes ({processes}); take fewer")
        self.batch_size = batch_size * processes
        self.rank, self.processes = rank, processes
        self.seed = seed
        self.start = start
        self.redraw = redraw
        self._counts = [max(1, len(group) // self.batch_size) for group in self.groups]
        self.batches_per_epoch = sum(self._counts)

    def epoch(self, number: int) -> list[list[int]]:
        """The batches of one epoch, of all processes."""
        return list(self._batches(number, 0))

    def _batches(self, number: int, skip: int) -> Iterator[list[int]]:
        """The same, one at a time, from the one after `skip` on; a list of them all would be large."""
        random = np.random.default_rng((self.seed, number))
        orders = [random.permutation(group) for group in self.groups]
        ends = list(itertools.accumulate(self._counts))
        for batch in random.permutation(self.batches_per_epoch)[skip:].tolist():
            group = bisect.bisect_right(ends, batch)
            first = (batch - ends[group] + self._counts[group]) * self.batch_size
            yield orders[group][first : first + self.batch_size].tolist()

    def __iter__(self) -> Iterator[list[int]]:
        number, skip = divmod(self.start, self.batches_per_epoch)
        while True:
            for place, batch in enumerate(self._batches(number, skip), skip):
                if self.redraw is not None:
                    batch = self.redraw(batch, np.random.default_rng((self.seed, number, place + 1)))
                own = len(batch) // self.processes
                yield batch[self.rank * own : (self.rank + 1) * own]
            number, skip = number + 1, 0


class _Memory:
    """Arrays whose memory is taken again once nobody uses them.

    An allocator would put what lasts, as the index of an open file, between one batch and the next, so that memory grew
    with the number of files; and the system needs nearly as long to hand out new pages as it takes to fill them.
    """

    def __init__(self) -> None:
        self.free: defaultdict[int, deque[np.ndarray]] = defaultdict(deque)

    def take(self, shape: tuple[int, ...], kind: type[np.generic]) -> np.ndarray:
        """An array with any contents. It may be used by itself or as a tensor, but no view of it may outlive it."""
        size = np.dtype(kind).itemsize * math.prod(shape)
        free = self.free[size]
        try:
            memory = free.pop()
        except IndexError:
            memory = np.empty(size, np.uint8)
        array = np.ndarray(shape, kind, memory)
        weakref.finalize(array, free.append, memory).atexit = False
        return array


class SliceDataset:
    """Slices of stores, read a batch at a time.

    Args:
        stores: where they are.
        slices: which there are.
        labels: whether to read them too.
        context: neighbours on each side that come as channels with each slice, of its whole volume, whichever slices of
            it are listed (see `jcl.data.context`).
        neighbourhood: with each slice comes another of its volume, drawn among those at most so far away, as a share of
            the volume (see `draw_neighbours`); None for none. The draw depends on the numbers of the batch alone, so
            that a run that goes on, and any number of threads, read the same.
    """

    def __init__(
        self,
        stores: Sequence[Store],
        slices: SliceList,
        *,
        labels: bool,
        context: int = 0,
        neighbourhood: float | None = None,
    ) -> None:
        self.stores = tuple(stores)
        self.slices = slices
        self.labels = labels
        self.context = context
        self.neighbourhood = neighbourhood
        self._memory = _Memory()

    def __len__(self) -> int:
        return len(self.slices)

    def store_numbers(self) -> Int[np.ndarray, " n"]:
        """Number of each slice's store."""
        return self.slices.stores()

    def read(self, indices: Sequence[int], *, pinned: bool = False) -> SliceBatch:
        """The slices with these numbers, all of one store, as a batch. Threads may call it at the same time.

        Args:
            indices: numbers in `slices`.
            pinned: images in memory that a GPU can copy from while it computes.

        Raises:
            DataError: a slice is damaged; the message names its file.
        """
        chosen = [self.slices[index] for index in indices]
        store = self.stores[chosen[0].store]
        depths = [store.cases[where.case].slices for where in chosen]
        neighbours = None
        if self.neighbourhood is not None:
            places = [(where.slice, depth) for where, depth in zip(chosen, depths, strict=True)]
            drawn = draw_neighbours(places, self.neighbourhood, indices)
            others = [replace(where, slice=number) for where, number in zip(chosen, drawn, strict=True)]
            neighbours = self._images(store, others, pinned=pinned)
        labels = torch.from_numpy(self._memory.take((len(chosen), *store.size), np.int64)) if self.labels else None
        if labels is not None:
            for row, where in zip(labels.numpy(), chosen, strict=True):
                row[...] = store.label(where.case, where.slice)
        return SliceBatch(
            images=self._images(store, chosen, pinned=pinned),
            positions=torch.tensor([(w.slice + 1) / depth for w, depth in zip(chosen, depths, strict=True)]),
            volumes=torch.tensor([where.case for where in chosen]),
            labels=labels,
            depths=torch.tensor(depths),
            neighbours=neighbours,
        )

    def _images(self, store: Store, chosen: Sequence[SliceIndex], *, pinned: bool) -> Float[Tensor, "b c h w"]:
        """Each slice is unpacked to its place in the batch; nothing is stacked, nor sent between processes."""
        shape = (len(chosen), span_of(self.context) * store.channels, *store.size)
        images = (
            torch.empty(shape, pin_memory=True) if pinned else torch.from_numpy(self._memory.take(shape, np.float32))
        )
        for row, where in zip(images.numpy(), chosen, strict=True):
            store.image(where.case, where.slice, row, context=self.context)
        return images


@runtime_checkable
class Dataset(Protocol):
    """What batches are read from: slices, or blocks (`jcl.data.blocks`)."""

    def store_numbers(self) -> Int[np.ndarray, " n"]:
        """Number of the store for each of those that an epoch has."""
        ...

    def read(self, indices: Sequence[int], *, pinned: bool = False) -> SliceBatch:
        """Those with these numbers as a batch; threads may call it at the same time."""
        ...


def load_batches(
    slices: Dataset, order: BatchSampler, *, workers: int = 0, pinned: bool = False
) -> Iterator[SliceBatch]:
    """Batches without end in the given order, which is the same with any number of workers.

    Workers are threads that read ahead, one even where `workers` is 0. Threads do it, since nearly all that reading
    a slice takes is done without Python's lock: file, digest, unpacking, conversion. What goes wrong in a thread
    is raised here as it is. The threads end when the iterator does.

    Args:
        slices: what to read.
        order: which of them make each batch.
        workers: threads.
        pinned: see `Slices.read`.

    Raises:
        DataError: a slice is damaged; the message names its file.
    """
    threads = max(1, workers)
    waiting: deque[Future[SliceBatch]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="jcl-loader")
    try:
        for indices in order:
            waiting.append(pool.submit(slices.read, indices, pinned=pinned))
            if len(waiting) > AHEAD * threads:
                yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
