"""Slices that are drawn for a structure they show, so that small and rare ones are seen in every few steps."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from jcl.data.manifest import IGNORE
from jcl.data.slices import SliceList
from jcl.data.store import Store

__all__ = ["StructureDraws", "structure_draws"]


@dataclass(frozen=True, eq=False)
class StructureDraws:
    """Which slices show each structure, and what share of a batch is drawn for one.

    Attributes:
        share: of the slices of a batch.
        showing: for each structure that any slice shows, the numbers of those slices.
    """

    share: float
    showing: Sequence[Int[np.ndarray, " _"]]

    def replace(self, batch: Sequence[int], random: np.random.Generator) -> list[int]:
        """The batch with `share` of it, on average, drawn anew: a structure, each as likely, then a slice with it.

        nnU-Net draws a third of its patches so (Isensee et al., 2021).
        """
        drawn = list(batch)
        count = int(self.share * len(drawn) + random.random())
        for place in random.permutation(len(drawn))[:count].tolist():
            showing = self.showing[int(random.integers(len(self.showing)))]
            drawn[place] = int(showing[random.integers(len(showing))])
        return drawn


def structure_draws(store: Store, slices: SliceList, share: float) -> StructureDraws | None:
    """See which of the slices show each structure; None where nothing is to be drawn. Reads all their labels.

    Args:
        store: with the labels.
        slices: of this store alone, some of which show a structure.
        share: of a batch, 0 to 1.

    Raises:
        DataError: a label is damaged.
    """
    if not share:
        return None
    showing: defaultdict[int, list[int]] = defaultdict(list)
    for number in range(len(slices)):
        where = slices[number]
        for value in np.unique(store.label(where.case, where.slice)).tolist():
            if value not in (0, IGNORE):
                showing[value].append(number)
    return StructureDraws(share, [np.array(numbers) for _, numbers in sorted(showing.items())])
