"""Changes of images and labels on whole batches, for pre-training and fine-tuning."""

from jcl._lazy import attach
from jcl.augment.intensity import IntensityRanges, jitter
from jcl.augment.label_noise import corrupt_labels
from jcl.augment.published import Published, published_view
from jcl.augment.spatial import (
    AffineRanges,
    random_affine,
    random_elastic,
    random_view,
    shrink,
    warp,
    warp_with_labels,
)

__all__ = [
    "AffineRanges",
    "IntensityRanges",
    "Published",
    "corrupt_labels",
    "jitter",
    "published_view",
    "random_affine",
    "random_elastic",
    "random_view",
    "shrink",
    "warp",
    "warp_with_labels",
]

__getattr__, __dir__ = attach(__name__)
