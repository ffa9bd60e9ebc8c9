"""What several techniques do to slices: the recipe's changes without labels, and boxes in which two are exchanged."""

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from jcl.augment.batches import change_batch, place_batch
from jcl.augment.labelled import LabelledRanges
from jcl.data.batches import SliceBatch

__all__ = ["augment_alone", "boxes_of_area", "boxes_of_side"]

AREA, SHAPE = (0.02, 0.4), 0.3
"""Of the boxes of UniMatch's CutMix: share of the slice, and the least ratio of height and width."""


def augment_alone(batch: SliceBatch, ranges: LabelledRanges, *, generator: Generator) -> Float[Tensor, "b c *sides"]:
    """The changes that labelled slices or blocks get (`augment_batch`), for those without labels."""
    return change_batch(place_batch(batch, ranges, generator=generator), ranges.intensity, generator=generator)


def boxes_of_side(
    count: int, shape: tuple[int, int], share: float, *, generator: Generator, device: torch.device | str = "cpu"
) -> Bool[Tensor, "count h w"]:
    """True in a box of `share` of each side, anywhere within the slice."""
    height, width = (torch.full((count,), float(max(1, int(share * side)))) for side in shape)
    return _boxes(height, width, shape, generator, device)


def boxes_of_area(
    count: int, shape: tuple[int, int], *, generator: Generator, device: torch.device | str = "cpu"
) -> Bool[Tensor, "count h w"]:
    """True in a box of random area and shape, in half of the slices; nowhere in the others (UniMatch's CutMix).

    A box that is longer than the slice is cut off, where the authors draw again.
    """
    chosen, area, ratio = torch.rand(3, count, generator=generator, device=generator.device).cpu()
    area = (AREA[0] + (AREA[1] - AREA[0]) * area) * shape[0] * shape[1] * (chosen < 0.5)
    ratio = SHAPE + (1 / SHAPE - SHAPE) * ratio
    height, width = (area * ratio).sqrt().floor(), (area / ratio).sqrt().floor()
    return _boxes(height.clamp(max=shape[0]), width.clamp(max=shape[1]), shape, generator, device)


def _boxes(
    heights: Float[Tensor, " b"],
    widths: Float[Tensor, " b"],
    shape: tuple[int, int],
    generator: Generator,
    device: torch.device | str,
) -> Bool[Tensor, "b h w"]:
    """Boxes of so many pixels a side; small numbers on the host, all pixels on the device."""
    draws = torch.rand(2, len(heights), generator=generator, device=generator.device).cpu()
    along: list[Tensor] = []
    for draw, length, side in zip(draws, (heights, widths), shape, strict=True):
        first = (draw * (side - length + 1)).floor()
        places = torch.arange(side)
        along.append(((places >= first[:, None]) & (places < (first + length)[:, None])).to(device))
    return along[0][:, :, None] & along[1][:, None, :]
