"""The order of slices or blocks: shuffled batches, each from one store, without end."""

import bisect
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Int

from jcl.errors import DataError

__all__ = ["BatchSampler", "Redraw"]

Redraw = Callable[[list[int], np.random.Generator], list[int]]
"""Exchanges some slices of a batch (their numbers) for others."""


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
