"""Augmentation of whole batches on the device they are on, from an explicit generator.

Every image of a batch gets its own draw. The order of the draws is fixed, so that the same generator
state gives the same views whatever the number of loader workers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torch.nn import functional as F

from jcl.parallel.sending import send

POINTS = 2**20
"""Points of a grid made at a time on a CPU: 8 MiB, which the allocator keeps for the next; larger ones it asks the
system for again and again, which takes as long as the warp."""


ELASTIC_POINTS = 5
"""Random points per side between which elastic shifts run smoothly."""


@dataclass(frozen=True, kw_only=True)
class AffineRanges:
    """Ranges that `random_affine` draws from, uniformly.

    The defaults respect anatomy: mild turns and no mirroring, which would teach that left is right.
    """

    rotation: float = 30.0
    """Degrees to either side."""
    scale: float = 0.3
    """0.3 is a factor from 0.7 to 1.3."""
    translation: float = 0.1
    """Shift as a share of height and width."""


def random_affine(
    count: int, ranges: AffineRanges, *, generator: Generator, device: torch.device | str = "cpu"
) -> Float[Tensor, "count 2 3"]:
    """Random rotation, scale and translation, as the matrices that `warp` takes.

    Drawn on the generator's own device (one small transfer), so the views do not depend on where the
    images are.
    """
    angle, zoom, shift_x, shift_y = send(
        torch.rand(4, count, generator=generator, device=generator.device).mul_(2).sub_(1), device
    )
    angle = angle * math.radians(ranges.rotation)
    zoom = 1 + zoom * ranges.scale
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    # grid coordinates run from -1 to 1, so a shift by the share s of the side is 2 s
    shift = torch.stack([shift_x, shift_y]) * (2 * ranges.translation)
    rows = [torch.stack([cos, -sin, shift[0]], dim=1), torch.stack([sin, cos, shift[1]], dim=1)]
    return torch.stack(rows, dim=1)


def random_elastic(
    count: int, shape: tuple[int, int], reach: float, *, generator: Generator, device: torch.device | str = "cpu"
) -> Float[Tensor, "count h w 2"]:
    """Smooth random shifts of every pixel, as `warp` takes them: cubic between `ELASTIC_POINTS` random ones a side.

    Args:
        count: images.
        shape: their rows and columns.
        reach: largest shift of a random point, as a share of the side.
        generator: of the draws.
        device: of the result.
    """
    points = torch.rand(count, 2, ELASTIC_POINTS, ELASTIC_POINTS, generator=generator, device=generator.device)
    # grid coordinates run from -1 to 1, so a shift by the share s of the side is 2 s
    shifts = send(points.mul_(2).sub_(1).mul_(2 * reach), device)
    return F.interpolate(shifts, size=shape, mode="bicubic", align_corners=True).permute(0, 2, 3, 1)


def warp(
    images: Float[Tensor, "b c h w"],
    matrices: Float[Tensor, "b 2 3"],
    *,
    mode: str = "bilinear",
    shifts: Float[Tensor, "b h w 2"] | None = None,
) -> Float[Tensor, "b c h w"]:
    """Resample each image at the points that its matrix gives; what lies outside is 0.

    The matrices are those of an output pixel's place in the input, in units in which a step to the
    right is as long as a step down, so that a rotation does not shear images that are not square.
    `shifts` are added to these places (see `random_elastic`).
    """
    height, width = images.shape[-2:]
    step = len(images) if images.device.type != "cpu" else max(torch.get_num_threads(), POINTS // (height * width))
    added = [0.0] * len(images.split(step)) if shifts is None else shifts.split(step)
    warped = [
        _sample(some, _grid(theirs, height, width) + extra, mode)
        for some, theirs, extra in zip(images.split(step), matrices.split(step), added, strict=True)
    ]
    return concatenate(warped)


def _grid(matrices: Float[Tensor, "b 2 3"], height: int, width: int) -> Float[Tensor, "b {height} {width} 2"]:
    """Where each output pixel lies in the input, in the units of `grid_sample`: x and y from -1 to 1.

    A point is the sum of a term of its column and one of its row. Added as complex numbers x + iy that is a single
    pass over the grid; `affine_grid`, a product of many small matrices, takes fifty times as long on a CPU.
    """
    x, y = (torch.arange(1 - side, side, 2, device=matrices.device) / side for side in (width, height))
    (xx, xy, x0), (yx, yy, y0) = matrices.float().permute(1, 2, 0)[..., None]
    columns = torch.complex(xx * x + x0, yx * (width / height) * x + y0)
    rows = torch.complex(xy * (height / width) * y, yy * y)
    return torch.view_as_real(columns[:, None, :] + rows[:, :, None])


def _sample(
    images: Float[Tensor, "b c h w"], grid: Float[Tensor, "b h w 2"], mode: str = "bilinear"
) -> Float[Tensor, "b c h w"]:
    return F.grid_sample(images, grid.to(images.dtype), mode=mode, padding_mode="zeros", align_corners=False)


def random_view(
    images: Float[Tensor, "b c h w"], ranges: AffineRanges, *, generator: Generator, elastic: float = 0.0
) -> Float[Tensor, "b c h w"]:
    """Each image under a `random_affine` of its own: the view that all methods have in common.

    With `elastic` above 0 a `random_elastic` of that reach is added.
    """
    count, shape = len(images), (images.shape[2], images.shape[3])
    matrices = random_affine(count, ranges, generator=generator, device=images.device)
    if not elastic:
        return warp(images, matrices)
    return warp(
        images, matrices, shifts=random_elastic(count, shape, elastic, generator=generator, device=images.device)
    )


def warp_with_labels(
    images: Float[Tensor, "b c h w"],
    labels: Int[Tensor, "b h w"],
    matrices: Float[Tensor, "b 2 3"],
    *,
    shifts: Float[Tensor, "b h w 2"] | None = None,
) -> tuple[Float[Tensor, "b c h w"], Int[Tensor, "b h w"]]:
    """The same `warp` of images (bilinear) and labels (nearest; background outside)."""
    warped = warp(labels[:, None].to(images.dtype), matrices, mode="nearest", shifts=shifts)
    return warp(images, matrices, shifts=shifts), warped[:, 0].round().to(labels.dtype)


def shrink(
    images: Float[Tensor, "b c *space"], factor: int | Sequence[int], *, align_corners: bool = False
) -> Float[Tensor, "b c *smaller"]:
    """Down-sampling by a whole factor, one for all sides or one for each: what the dominant branch sees.

    By area averaging or, with `align_corners`, as the authors' program does: bilinear between four pixels (of voxels
    trilinear), none of them averaged, with corner pixels on corner pixels.
    """
    sides = images.shape[2:]
    factors = [factor] * len(sides) if isinstance(factor, int) else list(factor)
    if all(by == 1 for by in factors):
        return images
    flat = len(sides) == 2
    if not align_corners:
        return F.avg_pool2d(images, factors) if flat else F.avg_pool3d(images, factors)
    size = [side // by for side, by in zip(sides, factors, strict=True)]
    return F.interpolate(images, size=size, mode="bilinear" if flat else "trilinear", align_corners=True)


def concatenate(views: Sequence[Tensor]) -> Tensor:
    """Views of equal size as one batch, so that the network passes over them once."""
    return views[0] if len(views) == 1 else torch.cat(list(views))
