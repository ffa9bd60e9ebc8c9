"""Changes of intensity on whole batches, from an explicit generator; pixels stay in their place."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from jcl.parallel.sending import send

__all__ = ["IntensityRanges", "jitter"]


@dataclass(frozen=True, kw_only=True)
class IntensityRanges:
    """Ranges that `jitter` draws from. Images are taken to lie about [0, 1]."""

    brightness: float = 0.1
    """Added to the image: up to this much to either side."""
    contrast: float = 0.25
    """0.25 is a factor from 0.75 to 1.25 on the distance from the image's mean."""
    gamma: float = 0.3
    """The exponent is exp(u), u up to this much to either side."""
    noise: float = 0.05
    """Gaussian noise with a standard deviation up to this."""


def jitter(
    images: Float[Tensor, "b c h w"], ranges: IntensityRanges, *, generator: Generator
) -> Float[Tensor, "b c h w"]:
    """Random gamma, contrast, brightness and noise for each image; pixels stay in their place.

    Padding, which is exactly 0, stays 0: it is not tissue, and its edges must not become a cue.
    """
    count = images.shape[0]
    draws = send(torch.rand(4, count, 1, 1, 1, generator=generator, device=generator.device), images.device)
    gamma, contrast, brightness = (2 * draws[:3] - 1).unbind()
    # in place wherever it can be: a new array of this size costs more than the arithmetic
    result = images.clamp(min=0).pow_(torch.exp(gamma * ranges.gamma)).add_(images.clamp(max=0))
    mean = result.mean(dim=(1, 2, 3), keepdim=True)
    factor = 1 + contrast * ranges.contrast
    result.mul_(factor).add_(mean * (1 - factor) + brightness * ranges.brightness)
    if ranges.noise:
        noise = send(torch.randn(images.shape, generator=generator, device=generator.device), images.device)
        result.addcmul_(noise, draws[3] * ranges.noise)
    return result.mul_(images.sign().abs_())
