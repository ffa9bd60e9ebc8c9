"""MoCo's queue: keys of earlier batches, and of which slice each of them is."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from jcl.ssl.memory_bank import MemoryBank

__all__ = ["KeyQueue"]


class KeyQueue(MemoryBank):
    """Keys of unit length, each with volume and position of its slice.

    On a small set a slice comes back while its own earlier keys are still queued; as negatives they would push apart
    what the loss pulls together. So a query leaves out those of its own slice. (In a run over several stores two slices
    may agree in both; then one negative less is counted.) The queue starts with random unit vectors, as in the paper
    (arXiv:1911.05722), and not empty: the first loss would have no negatives, and no gradient.
    """

    def __init__(self, size: int, width: int) -> None:
        keys = torch.randn(size, width)
        super().__init__(
            keys=keys * keys.square().sum(1, keepdim=True).rsqrt(),
            volumes=torch.full((size,), -1),  # of no slice
            positions=torch.zeros(size),
        )

    def own(self, volumes: Int[Tensor, " n"], positions: Float[Tensor, " n"]) -> Bool[Tensor, "n k"]:
        """Which queued keys are of the same slice as which row."""
        return (volumes[:, None] == self["volumes"]) & (positions[:, None] == self["positions"])
