"""What fine-tuning does to a batch of slices: geometry for image and label alike, then the image alone."""

from dataclasses import dataclass, field

from jaxtyping import Float, Int
from torch import Generator, Tensor

from jcl.augment.intensity import IntensityRanges, jitter
from jcl.augment.sharpness import blur, coarsen
from jcl.augment.spatial import AffineRanges, random_affine, random_elastic, random_view, warp_with_labels

__all__ = ["LabelledRanges", "augment", "change_intensity", "place"]

BLUR = 1.2
"""Pixels of the strongest blur at an `intensity` of 1."""
COARSE = 2.0
"""How many times as coarse the coarsest grid is, whatever the `intensity`."""


@dataclass(frozen=True, kw_only=True)
class LabelledRanges:
    """Ranges that `augment` draws from."""

    affine: AffineRanges = field(default_factory=AffineRanges)
    elastic: float = 0.0
    """Largest elastic shift as a share of the side; 0 for none."""
    intensity: float = 0.0
    """Strength of changes of contrast, brightness, gamma, noise and sharpness; 0 for none, 1 as in pre-training."""


def augment(
    images: Float[Tensor, "b c h w"], labels: Int[Tensor, "b h w"], ranges: LabelledRanges, *, generator: Generator
) -> tuple[Float[Tensor, "b c h w"], Int[Tensor, "b h w"]]:
    """Each slice under changes of its own; image and label stay in register, and no label value is made up."""
    count, shape, device = len(images), (images.shape[2], images.shape[3]), images.device
    matrices = random_affine(count, ranges.affine, generator=generator, device=device)
    shifts = None
    if ranges.elastic:
        shifts = random_elastic(count, shape, ranges.elastic, generator=generator, device=device)
    images, labels = warp_with_labels(images, labels, matrices, shifts=shifts)
    return change_intensity(images, ranges.intensity, generator=generator), labels


def place(
    images: Float[Tensor, "b c h w"], ranges: LabelledRanges, *, generator: Generator
) -> Float[Tensor, "b c h w"]:
    """Each slice under changes in space of its own, from the ranges of `augment`; for slices without labels."""
    return random_view(images, ranges.affine, generator=generator, elastic=ranges.elastic)


def change_intensity(
    images: Float[Tensor, "b c h w"], strength: float, *, generator: Generator
) -> Float[Tensor, "b c h w"]:
    """Each slice with another sharpness, contrast, brightness, gamma and noise; at a strength of 0 as it is."""
    if not strength:
        return images
    images = blur(images, BLUR * strength, generator=generator)
    images = coarsen(images, COARSE, generator=generator)
    usual = IntensityRanges()
    scaled = {name: value * strength for name, value in vars(usual).items()}
    return jitter(images, IntensityRanges(**scaled), generator=generator)
