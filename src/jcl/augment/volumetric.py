"""Changes of blocks in space, on the device that they are on, from an explicit generator.

A block is turned about the body axis, across its slices, as far as a slice is turned in its plane (`AffineRanges`), and
tilted about the two other axes a little: bodies lie in scanners that way. Turns and tilts are of the body, not of the
grid: `aspects` says how much longer a step through the plane is than one in it.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torch.nn import functional as F

from jcl.augment.labelled import LabelledRanges, change_intensity
from jcl.augment.spatial import ELASTIC_POINTS, AffineRanges
from jcl.parallel.sending import send

__all__ = [
    "augment_blocks",
    "change_blocks",
    "middle_of",
    "place_blocks",
    "random_affine_3d",
    "random_block_view",
    "random_elastic_3d",
    "warp_blocks",
]

Shape = tuple[int, int, int]
"""Slices, rows and columns."""

TILT = 1 / 3
"""Of the turn about the body axis: how far the two other turns go, 10 degrees of 30."""

THICK = 3.0
"""Slices thicker than so many of their pixels are not tilted: what would come in from their neighbours is too coarse to
be interpolated (nnU-Net's limit)."""


def random_affine_3d(
    aspects: Float[Tensor, " b"], ranges: AffineRanges, *, generator: Generator
) -> Float[Tensor, "b 3 4"]:
    """Random turn, tilts, scale and translation, as the matrices that `warp_blocks` takes.

    Drawn on the generator's own device, so that views do not depend on where the images are.

    Args:
        aspects: through-plane over in-plane spacing of each block.
        ranges: of the turn about the body axis, of the scale, which is one for all sides, and of the translation as a
            share of each side.
        generator: of the draws.
    """
    draws = torch.rand(7, len(aspects), generator=generator, device=generator.device).mul_(2).sub_(1)
    draws = send(draws, aspects.device)
    turn, *tilts = draws[:3] * math.radians(ranges.rotation)
    about_rows, about_columns = (torch.where(aspects <= THICK, tilt * TILT, 0) for tilt in tilts)
    zoom = 1 + draws[3] * ranges.scale
    matrix = _turn(0, 1, turn) @ _turn(1, 2, about_rows) @ _turn(0, 2, about_columns) / zoom[:, None, None]
    return torch.cat([matrix, (draws[4:].T * (2 * ranges.translation))[..., None]], dim=2)


def _turn(first: int, second: int, angle: Float[Tensor, " b"]) -> Float[Tensor, "b 3 3"]:
    """A rotation in the plane of two of the axes x, y, z."""
    matrix = torch.eye(3, device=angle.device).repeat(len(angle), 1, 1)
    matrix[:, first, first] = matrix[:, second, second] = torch.cos(angle)
    matrix[:, second, first] = torch.sin(angle)
    matrix[:, first, second] = -matrix[:, second, first]
    return matrix


def random_elastic_3d(
    aspects: Float[Tensor, " b"], shape: Shape, reach: float, *, generator: Generator
) -> Float[Tensor, "b d h w 3"]:
    """Smooth random shifts of every voxel, as `warp_blocks` takes them: cubic between `ELASTIC_POINTS` a side.

    Thick slices are shifted in their plane alone, as they are not tilted.

    Args:
        aspects: through-plane over in-plane spacing of each block.
        shape: slices, rows and columns of the blocks.
        reach: largest shift of a random point, as a share of each side.
        generator: of the draws.
    """
    depth, height, width = shape
    points = torch.rand(len(aspects), 3, *(ELASTIC_POINTS,) * 3, generator=generator, device=generator.device)
    # grid coordinates run from -1 to 1, so a shift by the share s of the side is 2 s
    shifts = send(points.mul_(2).sub_(1).mul_(2 * reach), aspects.device)
    shifts[:, 2] = torch.where(aspects[:, None, None, None] <= THICK, shifts[:, 2], 0)
    plane = F.interpolate(shifts.flatten(1, 2), size=(height, width), mode="bicubic", align_corners=True)
    lines = plane.view(len(aspects), 3, ELASTIC_POINTS, height * width)
    whole = F.interpolate(lines, size=(depth, height * width), mode="bicubic", align_corners=True)
    return whole.view(len(aspects), 3, depth, height, width).movedim(1, -1)


def warp_blocks(
    images: Float[Tensor, "b c d h w"],
    matrices: Float[Tensor, "b 3 4"],
    aspects: Float[Tensor, " b"],
    *,
    labels: Int[Tensor, "b d h w"] | None = None,
    shifts: Float[Tensor, "b dd hh ww 3"] | None = None,
    shape: Shape | None = None,
) -> tuple[Float[Tensor, "b c dd hh ww"], Int[Tensor, "b dd hh ww"] | None]:
    """Resample each block, and its labels (nearest), at the points that its matrix gives; what lies outside is 0.

    The matrices are those of an output voxel's place in the input (x, y, z), in steps in the plane; their last column
    is a shift in halves of the sides. `shifts` are added to these places. The grid is made once, for image and labels.
    With a `shape` the block is that middle part of what is given, and sides are its own: what a turn brings into its
    corners is then taken from around it.
    """
    given = _sides(images)
    sides = shape or given
    grid = _grid(matrices, aspects, sides)
    grid = grid if shifts is None else grid + shifts
    if sides != given:  # from halves of the block's sides to halves of those of what is given
        shares = [side / whole for side, whole in zip(reversed(sides), reversed(given), strict=True)]
        grid = grid * send(torch.tensor(shares), grid.device)
    grid = grid.to(images.dtype)
    warped = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    if labels is None:
        return warped, None
    there = F.grid_sample(
        labels[:, None].to(images.dtype), grid, mode="nearest", padding_mode="zeros", align_corners=False
    )
    return warped, there[:, 0].round().to(labels.dtype)


def _sides(images: Float[Tensor, "b c d h w"]) -> Shape:
    return images.shape[2], images.shape[3], images.shape[4]


def middle_of(images: Float[Tensor, "b c d h w"], shape: Shape) -> Float[Tensor, "b c dd hh ww"]:
    """The part of this shape in the middle of each block."""
    starts = [(whole - side) // 2 for whole, side in zip(_sides(images), shape, strict=True)]
    return images[(..., *(slice(start, start + side) for start, side in zip(starts, shape, strict=True)))]


def _grid(matrices: Float[Tensor, "b 3 4"], aspects: Float[Tensor, " b"], shape: Shape) -> Float[Tensor, "b d h w 3"]:
    """Where each output voxel lies in the input, in the units of `grid_sample`: x, y and z from -1 to 1."""
    sides = send(torch.tensor([shape[2], shape[1], shape[0]], dtype=torch.float32), matrices.device)
    steps = torch.ones(len(aspects), 3, device=matrices.device)
    steps[:, 2] = aspects
    reach = sides * steps  # of each side, in steps in the plane
    linear = matrices[:, :, :3].float() * reach[:, None, :] / reach[:, :, None]
    x, y, z = (
        torch.arange(1 - side, side, 2, device=matrices.device) / side for side in (shape[2], shape[1], shape[0])
    )
    columns = linear[:, :, 0, None] * x + matrices[:, :, 3, None]
    rows = linear[:, :, 1, None] * y
    slices = linear[:, :, 2, None] * z
    grid = columns[:, :, None, None, :] + rows[:, :, None, :, None] + slices[:, :, :, None, None]
    return grid.movedim(1, -1)


def random_block_view(
    images: Float[Tensor, "b c d h w"],
    aspects: Float[Tensor, " b"],
    ranges: AffineRanges,
    *,
    generator: Generator,
    elastic: float = 0.0,
    shape: Shape | None = None,
) -> Float[Tensor, "b c dd hh ww"]:
    """Each block under a `random_affine_3d` of its own.

    With `elastic` above 0 a `random_elastic_3d` of that reach is added. With a `shape` the block is that middle part of
    what is given.
    """
    matrices = random_affine_3d(aspects, ranges, generator=generator)
    shifts = _shifts(shape or _sides(images), aspects, elastic, generator)
    return warp_blocks(images, matrices, aspects, shifts=shifts, shape=shape)[0]


def _shifts(
    shape: Shape, aspects: Float[Tensor, " b"], elastic: float, generator: Generator
) -> Float[Tensor, "b d h w 3"] | None:
    """None, and nothing drawn, without a reach."""
    return random_elastic_3d(aspects, shape, elastic, generator=generator) if elastic else None


def augment_blocks(
    images: Float[Tensor, "b c d h w"],
    labels: Int[Tensor, "b d h w"],
    aspects: Float[Tensor, " b"],
    ranges: LabelledRanges,
    *,
    generator: Generator,
    shape: Shape | None = None,
) -> tuple[Float[Tensor, "b c dd hh ww"], Int[Tensor, "b dd hh ww"]]:
    """Each block under changes of its own; image and labels stay in register, and no label value is made up.

    With a `shape` the block is that middle part of what is given.
    """
    matrices = random_affine_3d(aspects, ranges.affine, generator=generator)
    shifts = _shifts(shape or _sides(images), aspects, ranges.elastic, generator)
    images, warped = warp_blocks(images, matrices, aspects, labels=labels, shifts=shifts, shape=shape)
    assert warped is not None
    return change_blocks(images, ranges.intensity, generator=generator), warped


def place_blocks(
    images: Float[Tensor, "b c d h w"],
    aspects: Float[Tensor, " b"],
    ranges: LabelledRanges,
    *,
    generator: Generator,
    shape: Shape | None = None,
) -> Float[Tensor, "b c dd hh ww"]:
    """Each block under changes in space of its own, from the ranges of `augment_blocks`; for blocks without labels."""
    return random_block_view(images, aspects, ranges.affine, generator=generator, elastic=ranges.elastic, shape=shape)


def change_blocks(
    images: Float[Tensor, "b c d h w"], strength: float, *, generator: Generator
) -> Float[Tensor, "b c d h w"]:
    """Each block with other intensities, alike in all its slices (see `jcl.augment.labelled.change_intensity`).

    Sharpness changes in the plane alone.
    """
    return change_intensity(images.flatten(1, 2), strength, generator=generator).view_as(images)
