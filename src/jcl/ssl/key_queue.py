"""MoCo's queue: keys of earlier batches, and of which slice each of them is."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from jcl.ssl.memory_bank import MemoryBank

__all__ = ["KeyQueue"]


class KeyQueue(MemoryBank):
    """Keys of unit length, each with volume and position of its slice.

    On a small set a slice comes back while its own earlier keys are still queued; as negatives they would push apart
    what the loss pulls together. So a query leaves out those of its own slice. (In a run over several stores two slices
    may agree in both; then one negative less is counted.) A block hardly comes back at the very same place, so that it
    leaves out those of its volume that may share a part with it. The queue starts with random unit vectors, as in the
    paper (arXiv:1911.05722), and not empty: the first loss would have no negatives, and no gradient.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__(
            keys=normalize(torch.randn(size, width)),
            volumes=torch.full((size,), -1),  # of no slice
            positions=torch.zeros(size),
        )

    def own(
        self, volumes: Int[Tensor, " n"], positions: Float[Tensor, " n"], reach: Float[Tensor, " n"] | None = None
    ) -> Bool[Tensor, "n k"]:
        """Which queued keys are of the same slice as which row.

        Args:
            volumes: of each row.
            positions: of each row.
            reach: of blocks, how far away in relative position another of the same volume has no slice in common.
        """
        same = volumes[:, None] == self["volumes"]
        if reach is None:
            return same & (positions[:, None] == self["positions"])
        return same & ((positions[:, None] - self["positions"]).abs() < reach[:, None])
