"""Blur and low resolution, as other scanners and thicker grids give them; pixels stay in their place."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.nn import functional as F

from jcl.parallel.sending import send

__all__ = ["blur", "coarsen", "gaussian_blur"]

CHANCE = 0.25
"""Share of the images that each of the two changes (nnU-Net: 0.2 and 0.25)."""


def blur(images: Float[Tensor, "b c h w"], reach: float, *, generator: Generator) -> Float[Tensor, "b c h w"]:
    """A Gaussian blur of `CHANCE` of the images, its standard deviation up to `reach` pixels."""
    chosen, sigma = send(torch.rand(2, len(images), generator=generator, device=generator.device), images.device)
    return gaussian_blur(images, sigma * reach, math.ceil(2 * reach), chosen=chosen < CHANCE)


def gaussian_blur(
    images: Float[Tensor, "b c h w"],
    sigma: Float[Tensor, " b"],
    radius: int,
    *,
    chosen: Bool[Tensor, " b"] | None = None,
) -> Float[Tensor, "b c h w"]:
    """A Gaussian blur of the chosen images (None: of all), each with its standard deviation, in pixels.

    The kernel ends `radius` pixels from its middle; beyond the image its edge goes on.
    """
    count, channels = images.shape[:2]
    apart = torch.arange(-radius, radius + 1, device=images.device) / sigma.clamp(min=0.1)[:, None]
    weights = torch.exp(-apart.square() / 2)
    weights = weights / weights.sum(1, keepdim=True)
    if chosen is not None:
        weights = torch.where(chosen[:, None], weights, (apart == 0).float())
    weights = weights.repeat(1, channels).view(count * channels, 1, -1).to(images.dtype)
    rows = F.pad(images.flatten(0, 1)[None], (radius, radius, radius, radius), mode="replicate")
    rows = F.conv2d(rows, weights[:, :, :, None], groups=count * channels)
    return F.conv2d(rows, weights[:, :, None, :], groups=count * channels)[0].view_as(images)


def coarsen(images: Float[Tensor, "b c h w"], factor: float, *, generator: Generator) -> Float[Tensor, "b c h w"]:
    """`CHANCE` of the images brought to a coarser grid, up to `factor` times as coarse, and back."""
    chosen, share = torch.rand(2, len(images), generator=generator, device=generator.device)
    result = images.clone()
    for number in torch.nonzero(chosen < CHANCE).flatten().tolist():
        shape = (images.shape[2], images.shape[3])
        less = [max(1, round(side / (1 + float(share[number]) * (factor - 1)))) for side in shape]
        coarse = F.interpolate(images[number, None], size=less, mode="area")
        result[number] = F.interpolate(coarse, size=shape, mode="bilinear", align_corners=False)[0]
    return result
