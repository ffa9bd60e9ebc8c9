"""The views of SimCLR, MoCo, SimSiam, BYOL and SwAV as their programs have them, for slices without colour.

Crops with a change of aspect, mirroring, brightness and contrast, blur, solarisation. What these programs do to colour
alone (saturation, hue, grey-scale) has no meaning here. Chances, ranges and order are those of the programs.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from jcl.augment.sharpness import gaussian_blur
from jcl.augment.spatial import shrink, warp
from jcl.errors import UsageError
from jcl.parallel.sending import send

__all__ = [
    "BYOL_VIEWS",
    "MOCO_VIEWS",
    "SIMCLR_VIEWS",
    "SMALL_VIEW",
    "SWAV_VIEWS",
    "Published",
    "published",
    "published_view",
]

ASPECT = 4 / 3
"""Largest ratio of a crop's sides, either way."""

SIGMA = (0.1, 2.0)
"""Pixels of the blur's standard deviation, from and to."""

KERNEL = 0.1
"""Side of the blur's kernel, as a share of the image's."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """What one view of a program goes through."""

    area: tuple[float, float]
    """Of the crop, as a share of the image's."""
    jitter: float
    """Brightness and contrast are each multiplied by up to this much less or more than 1."""
    jittered: float = 0.8
    """Share of the images whose brightness and contrast change."""
    blurred: float = 0.5
    """Share of the images that are blurred."""
    solarised: float = 0.0
    """Share of the images whose brighter half is inverted."""
    smaller: int = 1
    """How many times smaller the sides of the view are than those of the image."""


Views = tuple[Published, Published]
"""Of the first and of the second view."""

SIMCLR_VIEWS: Views = (Published(area=(0.08, 1.0), jitter=0.8), Published(area=(0.08, 1.0), jitter=0.8))
MOCO_VIEWS: Views = (Published(area=(0.2, 1.0), jitter=0.4), Published(area=(0.2, 1.0), jitter=0.4))
"""MoCo v2's, and SimSiam's."""
BYOL_VIEWS = (
    Published(area=(0.08, 1.0), jitter=0.4, blurred=1.0),
    Published(area=(0.08, 1.0), jitter=0.4, blurred=0.1, solarised=0.2),
)
SWAV_VIEWS: Views = (Published(area=(0.14, 1.0), jitter=0.8), Published(area=(0.14, 1.0), jitter=0.8))
SMALL_VIEW = Published(area=(0.05, 0.14), jitter=0.8, smaller=2)
"""96 of 224 pixels in the program, half of the side here."""


def published(augment: str, views: Views, dimensions: int = 2) -> Views | None:
    """The views of a program where `augment` is `own`; None where it is `shared`, the views that all methods have.

    Raises:
        UsageError: it is neither, or the views are of blocks, for which no program has any.
    """
    if augment not in ("shared", "own"):
        raise UsageError(f"augment is {augment!r}; it can be shared or own")
    if augment == "own" and dimensions != 2:
        raise UsageError("augment is 'own', the views of a program for pictures; of blocks there are shared ones only")
    return views if augment == "own" else None


def published_view(
    images: Float[Tensor, "b c h w"], view: Published, *, generator: Generator
) -> Float[Tensor, "b c y x"]:
    """Each image cropped, mirrored and changed in intensity by draws of its own.

    Images are taken to lie about [0, 1], and stay within [0, 1] or what they had.
    """
    draws = send(torch.rand(10, len(images), generator=generator, device=generator.device), images.device)
    low = images.amin((1, 2, 3), keepdim=True).clamp(max=0)
    high = images.amax((1, 2, 3), keepdim=True).clamp(min=1)
    result = shrink(warp(images, crops(draws[:5], (images.shape[2], images.shape[3]), view.area)), view.smaller)
    result = _jitter(result, draws[5:8], view).clamp(low, high)
    if view.blurred:
        chosen, share = send(torch.rand(2, len(images), generator=generator, device=generator.device), images.device)
        sigma = SIGMA[0] + share * (SIGMA[1] - SIGMA[0])
        radius = max(1, round(KERNEL * min(result.shape[-2:]) / 2))
        result = torch.where(_rows(chosen < view.blurred), gaussian_blur(result, sigma, radius), result)
    if view.solarised:
        result = torch.where(_rows(draws[8] < view.solarised) & (result >= 0.5), 1 - result, result)
    return result


def crops(draws: Float[Tensor, "5 b"], shape: tuple[int, int], area: tuple[float, float]) -> Float[Tensor, "b 2 3"]:
    """Crops, every other one mirrored, as the matrices that `warp` takes.

    Area and aspect are drawn as in the programs, the aspect in logarithms; a side that would be longer than the image
    is as long as it, where the programs draw again.

    Args:
        draws: from 0 to 1, of area, aspect, both places and mirroring.
        shape: rows and columns of the images.
        area: the least and the largest, as a share of the image's.
    """
    height, width = shape
    share, aspect = area[0] + draws[0] * (area[1] - area[0]), torch.exp((2 * draws[1] - 1) * math.log(ASPECT))
    across = (share * aspect * height / width).sqrt().clamp(max=1)
    down = (share / aspect * width / height).sqrt().clamp(max=1)
    # from -1 to 1 over the image's side: how far the centre of the crop can be from that of the image
    x, y = (2 * draws[2] - 1) * (1 - across), (2 * draws[3] - 1) * (1 - down)
    mirrored = torch.where(draws[4] < 0.5, -1.0, 1.0)
    zero = torch.zeros_like(x)
    return torch.stack([torch.stack([across * mirrored, zero, x], 1), torch.stack([zero, down, y], 1)], 1)


def _jitter(images: Tensor, draws: Float[Tensor, "3 b"], view: Published) -> Tensor:
    """Brightness and contrast of some images, one after the other; contrast about the image's mean."""
    factors = 1 + (2 * draws[:2] - 1) * view.jitter
    brightness, contrast = (torch.where(draws[2] < view.jittered, factor, 1.0) for factor in factors)
    images = images * _rows(brightness)
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * _rows(contrast) + mean


def _rows(values: Tensor) -> Tensor:
    return values[:, None, None, None]
