"""Which pairs of views JCL draws, how they go through its two branches, and which rows each loss takes."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from jcl.augment.intensity import IntensityRanges, jitter
from jcl.augment.spatial import AffineRanges, random_view
from jcl.augment.volumetric import random_block_view
from jcl.methods._jcl.ablations import Ablations

__all__ = ["Pair", "ViewPairs", "view_pairs"]

Pair = tuple[Tensor, Tensor]

Aspects = Float[Tensor, " b"] | None
"""Of blocks, through-plane over in-plane spacing; None for slices."""


@dataclass(frozen=True)
class ViewPairs:
    """An invariant pair, in which pixels keep their place, for pixel and feature losses; a variant one for images.

    The variant pair is made of the invariant one (journal, equation 5). In rows the invariant pair comes first, and
    each only if a loss asks for it.
    """

    variant: Callable[[Pair, Generator, Aspects], Pair]
    invariant: Callable[[Tensor, Generator], Pair] | None
    """None: all losses take the variant pair (equations 5-12 read literally)."""
    crossed: bool
    """Both views of a pair go through both branches, so that a slice's other view is off the diagonal; else one view
    goes through each."""

    def draw(self, images: Tensor, losses: Collection[str], generator: Generator, aspects: Aspects = None) -> Pair:
        """Views of the auxiliary and of the dominant branch, at full size, as many as the losses ask for."""
        still = (images, images) if self.invariant is None else self.invariant(images, generator)
        pairs = [self.variant(still, generator, aspects)] if self.invariant is None or "global" in losses else []
        if self.invariant is not None and set(losses) != {"global"}:
            pairs.insert(0, still)
        if self.crossed:
            both = torch.cat([view for pair in pairs for view in pair])
            return both, both
        auxiliary, dominant = (torch.cat(one_of_each) for one_of_each in zip(*pairs, strict=True))
        return auxiliary, dominant

    def rows(self, count: int, losses: Collection[str]) -> tuple[slice, slice]:
        """Which of the `count` rows of a branch the image loss takes, and which the pixel and feature losses."""
        if self.invariant is None or "global" not in losses or set(losses) == {"global"}:
            return slice(None), slice(None)
        return slice(count // 2, None), slice(0, count // 2)


def view_pairs(ablations: Ablations, affine: AffineRanges) -> ViewPairs:
    """As `views`, `invariant`, `pairing` and `elastic` say."""

    def view(images: Tensor, generator: Generator, aspects: Aspects) -> Tensor:
        if aspects is not None:
            return random_block_view(images, aspects, affine, generator=generator, elastic=ablations.elastic)
        return random_view(images, affine, generator=generator, elastic=ablations.elastic)

    def spatial(still: Pair, generator: Generator, aspects: Aspects) -> Pair:
        first, second = (view(each, generator, aspects) for each in still)
        return first, second

    def intensity(images: Tensor, generator: Generator) -> Pair:
        flat = images if images.ndim == 4 else images.flatten(1, 2)
        first, second = (jitter(flat, IntensityRanges(), generator=generator).view_as(images) for _ in range(2))
        return first, second

    def identity(images: Tensor, _: Generator) -> Pair:
        return images, images

    if ablations.views == "paper":
        return ViewPairs(spatial, None, crossed=True)
    invariant = identity if ablations.invariant == "identity" else intensity
    return ViewPairs(spatial, invariant, crossed=ablations.pairing == "cross")
