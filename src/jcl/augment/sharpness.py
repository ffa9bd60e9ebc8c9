"""Blur and low resolution, as other scanners and thicker grids give them; pixels stay in their place."""

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional as F

__all__ = ["blur", "coarsen"]

CHANCE = 0.25
"""Share of the images that each of the two changes (nnU-Net: 0.2 and 0.25)."""


def blur(images: Float[Tensor, "b c h w"], reach: float, *, generator: Generator) -> Float[Tensor, "b c h w"]:
    """A Gaussian blur of `CHANCE` of the images, its standard deviation up to `reach` pixels."""
    count, channels = images.shape[:2]
    chosen, sigma = torch.rand(2, count, generator=generator, device=generator.device).to(images.device)
    radius = math.ceil(2 * reach)
    apart = torch.arange(-radius, radius + 1, device=images.device) / (sigma * reach).clamp(min=0.1)[:, None]
    weights = torch.exp(-apart.square() / 2)
    weights = torch.where((chosen < CHANCE)[:, None], weights / weights.sum(1, keepdim=True), (apart == 0).float())
    weights = weights.repeat_interleave(channels, 0)[:, None].to(images.dtype)
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
