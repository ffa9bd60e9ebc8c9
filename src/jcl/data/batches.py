"""Batches of slices: what they hold, and the loader that reads them ahead."""

import math
import weakref
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from jcl.data.context import span_of
from jcl.data.neighbours import draw_neighbours
from jcl.data.sampler import BatchSampler
from jcl.data.slices import SliceIndex, SliceList
from jcl.data.store import Store
from jcl.parallel.sending import send

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
        return replace(self, **{name: send(value, device) for name, value in vars(self).items() if value is not None})

    def rows(self, numbers: Int[Tensor, " n"]) -> "SliceBatch":
        """A batch of the rows with these numbers, of which one may come more than once."""
        return replace(self, **{name: value[numbers] for name, value in vars(self).items() if value is not None})


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
        pinned: see `SliceDataset.read`.

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
