"""What fine-tuning does to a batch, of slices or of blocks: the one place that tells them apart."""

from jaxtyping import Float, Int
from torch import Generator, Tensor

from jcl.augment.labelled import LabelledRanges, augment, change_intensity, place
from jcl.augment.volumetric import augment_blocks, change_blocks, place_blocks
from jcl.data.batches import SliceBatch
from jcl.data.blocks import aspects_of, surroundings_of

__all__ = ["augment_batch", "change_batch", "place_batch"]


def augment_batch(
    batch: SliceBatch, ranges: LabelledRanges, *, generator: Generator
) -> tuple[Float[Tensor, "b c *sides"], Int[Tensor, " b *sides"]]:
    """Images and labels of a batch that has both, each row under changes of its own in space and in intensity."""
    assert batch.labels is not None
    aspects = aspects_of(batch)
    if aspects is None:
        return augment(batch.images, batch.labels, ranges, generator=generator)
    images, labels, shape = surroundings_of(batch)
    assert labels is not None
    return augment_blocks(images, labels, aspects, ranges, generator=generator, shape=shape)


def place_batch(batch: SliceBatch, ranges: LabelledRanges, *, generator: Generator) -> Float[Tensor, "b c *sides"]:
    """Images of a batch under the changes in space of `augment_batch`."""
    aspects = aspects_of(batch)
    if aspects is None:
        return place(batch.images, ranges, generator=generator)
    images, _, shape = surroundings_of(batch)
    return place_blocks(images, aspects, ranges, generator=generator, shape=shape)


def change_batch(
    images: Float[Tensor, "b c *sides"], strength: float, *, generator: Generator
) -> Float[Tensor, "b c *sides"]:
    """Images under the changes in intensity of `augment_batch`, with a strength of their own."""
    change = change_blocks if images.ndim == 5 else change_intensity
    return change(images, strength, generator=generator)
