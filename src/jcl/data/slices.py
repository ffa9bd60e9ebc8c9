"""Which slices of some stores there are, without one object for each of them."""

import bisect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Int

from jcl.data.manifest import IGNORE
from jcl.data.store import Store
from jcl.errors import DataError

__all__ = ["SliceIndex", "SliceList", "list_slices"]


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
