"""What several techniques do to images: the recipe's changes without labels, and boxes in which two are exchanged."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from jcl.augment.batches import change_batch, place_batch
from jcl.augment.labelled import LabelledRanges
from jcl.data.batches import SliceBatch
from jcl.parallel.sending import send

__all__ = ["augment_alone", "boxes_of_area", "boxes_of_side"]

AREA, SHAPE = (0.02, 0.4), 0.3
"""Of the boxes of UniMatch's CutMix: share of the slice, and the least ratio of height and width."""


def augment_alone(batch: SliceBatch, ranges: LabelledRanges, *, generator: Generator) -> Float[Tensor, "b c *sides"]:
    """The changes that labelled slices or blocks get (`augment_batch`), for those without labels."""
    return change_batch(place_batch(batch, ranges, generator=generator), ranges.intensity, generator=generator)


def boxes_of_side(
    count: int, shape: Sequence[int], share: float, *, generator: Generator, device: torch.device | str = "cpu"
) -> Bool[Tensor, " count *sides"]:
    """True in a box of `share` of each side, anywhere within the slice or the block."""
    lengths = [torch.full((count,), float(max(1, int(share * side)))) for side in shape]
    return _boxes(lengths, shape, generator, device)


def boxes_of_area(
    count: int, shape: Sequence[int], *, generator: Generator, device: torch.device | str = "cpu"
) -> Bool[Tensor, " count *sides"]:
    """True in a box of random area and shape, in half of the slices; nowhere in the others (UniMatch's CutMix).

    Of blocks the area is a share of the volume: through the plane the box has the share of the slices that it has of
    the plane's sides on average. A box that is longer than the slice is cut off, where the authors draw again.
    """
    chosen, area, ratio = torch.rand(3, count, generator=generator, device=generator.device).cpu()
    share = (AREA[0] + (AREA[1] - AREA[0]) * area) * (chosen < 0.5)
    *through, rows, columns = shape
    area = share ** (2 / len(shape)) * rows * columns
    ratio = SHAPE + (1 / SHAPE - SHAPE) * ratio
    height, width = (area * ratio).sqrt().floor(), (area / ratio).sqrt().floor()
    depths = [(share ** (1 / len(shape)) * side).ceil() for side in through]
    return _boxes([*depths, height.clamp(max=rows), width.clamp(max=columns)], shape, generator, device)


def _boxes(
    lengths: Sequence[Float[Tensor, " b"]], shape: Sequence[int], generator: Generator, device: torch.device | str
) -> Bool[Tensor, " b *sides"]:
    """Boxes of so many pixels or voxels a side; small numbers on the host, all pixels on the device."""
    draws = torch.rand(len(shape), len(lengths[0]), generator=generator, device=generator.device).cpu()
    inside = torch.ones(1, *shape, dtype=torch.bool, device=device)
    for axis, (draw, length, side) in enumerate(zip(draws, lengths, shape, strict=True)):
        first = (draw * (side - length + 1)).floor()
        places = torch.arange(side)
        along = send((places >= first[:, None]) & (places < (first + length)[:, None]), device)
        inside = inside & along.view(-1, *(side if each == axis else 1 for each in range(len(shape))))
    return inside
