"""Which pairs of views JCL draws, how they go through its two branches, and which rows each loss takes."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from jcl.augment.intensity import IntensityRanges, jitter
from jcl.augment.spatial import AffineRanges, random_view
from jcl.augment.volumetric import middle_of, random_block_view
from jcl.data.batches import SliceBatch
from jcl.data.blocks import aspects_of, surroundings_of
from jcl.methods._jcl.ablations import Ablations

__all__ = ["Pair", "ViewPairs", "view_pairs"]

Pair = tuple[Tensor, Tensor]


class Blocks(NamedTuple):
    """What views of blocks depend on beside the images, which come with their surroundings."""

    aspects: Float[Tensor, " b"]
    """Through-plane over in-plane spacing."""
    shape: tuple[int, int, int]
    """Slices, rows and columns of a block itself."""


@dataclass(frozen=True)
class ViewPairs:
    """An invariant pair, in which pixels keep their place, for pixel and feature losses; a variant one for images.

    The variant pair is made of the invariant one (journal, equation 5). In rows the invariant pair comes first, and
    each only if a loss asks for it.
    """

    variant: Callable[[Pair, Generator, Blocks | None], Pair]
    invariant: Callable[[Tensor, Generator], Pair] | None
    """None: all losses take the variant pair (equations 5-12 read literally)."""
    crossed: bool
    """Both views of a pair go through both branches, so that a slice's other view is off the diagonal; else one view
    goes through each."""

    def draw(self, batch: SliceBatch, losses: Collection[str], generator: Generator) -> Pair:
        """Views of the auxiliary and of the dominant branch, at full size, as many as the losses ask for."""
        images, blocks = _seen(batch)
        still = (images, images) if self.invariant is None else self.invariant(images, generator)
        pairs = [self.variant(still, generator, blocks)] if self.invariant is None or "global" in losses else []
        if self.invariant is not None and set(losses) != {"global"}:
            first, second = still
            if blocks is not None:
                first, second = middle_of(first, blocks.shape), middle_of(second, blocks.shape)
            pairs.insert(0, (first, second))
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


def _seen(batch: SliceBatch) -> tuple[Tensor, Blocks | None]:
    """Slices; or blocks with their surroundings, and what their views depend on."""
    aspects = aspects_of(batch)
    if aspects is None:
        return batch.images, None
    images, _, shape = surroundings_of(batch)
    return images, Blocks(aspects, shape)


def view_pairs(ablations: Ablations, affine: AffineRanges) -> ViewPairs:
    """As `views`, `invariant`, `pairing` and `elastic` say."""

    def view(images: Tensor, generator: Generator, blocks: Blocks | None) -> Tensor:
        if blocks is not None:
            aspects, shape = blocks
            return random_block_view(
                images, aspects, affine, generator=generator, elastic=ablations.elastic, shape=shape
            )
        return random_view(images, affine, generator=generator, elastic=ablations.elastic)

    def spatial(still: Pair, generator: Generator, blocks: Blocks | None) -> Pair:
        first, second = (view(each, generator, blocks) for each in still)
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
