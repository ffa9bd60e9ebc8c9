"""MAE: restore what is masked (He et al., 2022, arXiv:2111.06377), for convolutions (SparK, arXiv:2301.03580)."""

import math
from collections.abc import Sequence
from typing import Unpack

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from jcl.backbones import Backbone, crop_like, multiples_of, pad_to_multiple
from jcl.data.batches import SliceBatch
from jcl.distributed.comm import gather
from jcl.errors import UsageError
from jcl.methods._base import Method, ViewRanges
from jcl.parallel.sending import send

__all__ = ["MAE"]

PATCHES_A_SIDE = 8
"""Of the shorter side, where `patch` is 0; SparK has 7 (32 of 224 pixels), MAE 14."""

SMALL = 1e-6
"""Beside the variance of a patch, as MAE has it: an even patch has a target of 0."""


class MAE(Method):
    """Encoder and whole decoder restore the patches of a slice that were emptied (MAE, section 3).

    One spatial view x of each slice is cut into patches of `patch` pixels from its upper left corner on; those at the
    other borders may be smaller. `mask_ratio` of them, drawn for each slice by itself, are 0 in what the network is
    shown. With x' its output, through a 1x1 layer,

        L = mean over slices of  mean over the masked pixels of ( x'  -  (x - m) / sqrt(v + 1e-6) )^2

    m and v are mean and variance of x over the pixel's patch, in each channel; without `normalise`, 0 and 1.

    Convolutions cannot skip what is masked, as a transformer does, so they carry what is beside a hole into it, and the
    share of holes fades from level to level. SparK computes only where there is something to see. With `sparse` the
    decoder is held to that: in the features of each level, skips included, a place of which all pixels are masked
    has a learned vector of that level instead of what the encoder made of it (SparK's mask embedding).

    Adapted: the encoder's own layers and batch statistics are dense (SparK's are sparse); the decoder is the network's
    own and transfers, since it is what segments later (both papers throw theirs away); SGD instead of AdamW. 0 is the
    mean where a data set is normalised by z-scores, and its darkest value where by minimum and maximum.
    There are no pairs and no projections, so nothing can collapse, and no collapse is watched for.

    Blocks are cut in the same way, into patches of `patch` voxels along each side; where `patch` is 0 each side has its
    own, so that slices, of which a block has few, are not masked all through.
    """

    learning_rate = 0.3
    """By the sweep of rates in docs/methods.md. The papers have AdamW."""

    dimensions = (2, 3)

    def __init__(
        self,
        backbone: Backbone,
        *,
        mask_ratio: float = 0.6,
        patch: int = 0,
        normalise: bool = True,
        sparse: bool = False,
        **ranges: Unpack[ViewRanges],
    ) -> None:
        """Set up the restoring layer around `backbone`, and the vectors of masked places.

        Args:
            mask_ratio: share of the patches that are masked (MAE: 0.75, SparK: 0.6).
            patch: side of a patch in pixels (MAE: 16 of 224, SparK: 32); 0: a power of 2, about 1/8 of the side, and of
                each side of a block.
            normalise: whether each patch is to be restored less its mean and over its deviation (both papers: true).
            sparse: whether masked places are empty in the features that the decoder is given, too (SparK).
        """
        super().__init__(backbone, **ranges)
        self.mask_ratio, self.patch, self.normalise = mask_ratio, patch, normalise
        conv = nn.Conv2d if self.sides == 2 else nn.Conv3d
        self.restorer = conv(backbone.decoder_channels(backbone.blocks), backbone.in_channels, 1)
        levels = backbone.feature_channels if sparse else ()
        place = (1,) * self.sides
        self.empty = nn.ParameterList(nn.init.trunc_normal_(torch.empty(c, *place), std=0.02) for c in levels)
        self.pretrained_modules = backbone.submodule_names(backbone.blocks)

    def views(self, batch: SliceBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        """A spatial view of each slice, and what of it is seen: (n, c, h, w), and (n, 1, h, w) of 1 and, masked, 0.

        Raises:
            UsageError: a patch is as large as a slice.
        """
        images = self.spatial_view(batch, generator)
        return images, visible(images, self._patch(images), self.mask_ratio, generator=generator)

    def _patch(self, images: Tensor) -> tuple[int, ...]:
        return (self.patch,) * self.sides if self.patch else fitting_sides(images.shape[2:])

    def forward(self, views: tuple[Tensor, ...], batch: SliceBatch) -> dict[str, Tensor]:
        """The loss."""
        images, seen = views
        features = self._emptied(self.backbone.encode(images * seen), seen)
        restored = crop_like(self.restorer(self.backbone.decode(features)), images).float()
        target = images
        if self.normalise:
            target = normalised(images, self._patch(images))
        return {"loss": gather(masked_error(restored, target, seen)).mean()}

    def _emptied(self, features: list[Tensor], seen: Float[Tensor, "n 1 *space"]) -> list[Tensor]:
        """The features with the learned vectors where nothing is seen; as they are without `sparse`."""
        if not self.empty:
            return features
        whole = 1 - pad_to_multiple(1 - seen, multiples_of(self.backbone))  # what is added at the border is no hole
        pool = F.adaptive_max_pool2d if self.sides == 2 else F.adaptive_max_pool3d
        there = [pool(whole, level.shape[2:]) > 0 for level in features]
        levels = zip(there, features, self.empty, strict=True)
        return [torch.where(some, level, vector.to(level.dtype)) for some, level, vector in levels]


def fitting_patch(sides: tuple[int, ...]) -> int:
    """The power of 2 that is nearest to the shorter side over `PATCHES_A_SIDE`, at least 1.

    Examples:
        >>> [fitting_patch((side, 512)) for side in (64, 96, 256, 352)]
        [8, 16, 32, 32]
    """
    share = max(1, min(sides) // PATCHES_A_SIDE)
    below = 1 << (share.bit_length() - 1)
    return below if share - below < 2 * below - share else 2 * below


def fitting_sides(sides: Sequence[int]) -> tuple[int, ...]:
    """The sides of a patch: of slices one for both, of blocks each for itself.

    Examples:
        >>> fitting_sides((128, 64)), fitting_sides((16, 64, 128))
        ((8, 8), (2, 8, 16))
    """
    if len(sides) == 2:
        return (fitting_patch(tuple(sides)),) * 2
    return tuple(fitting_patch((side,)) for side in sides)


def visible(
    images: Float[Tensor, "n c *space"], patch: Sequence[int], ratio: float, *, generator: Generator
) -> Float[Tensor, "n 1 *space"]:
    """1 where a slice is seen and 0 in `ratio` of its patches, the same number in each slice, at least one each.

    Args:
        images: slices or blocks.
        patch: its sides.
        ratio: of the patches that are masked.
        generator: of the draws.

    Raises:
        UsageError: there is one patch only.
    """
    sides = images.shape[2:]
    counts = [-(-side // each) for side, each in zip(sides, patch, strict=True)]
    patches = math.prod(counts)
    if patches < 2:
        given, whole = "slices" if len(sides) == 2 else "blocks", "x".join(map(str, sides))
        raise UsageError(f"patch is {patch[0]}; {given} of {whole} need a smaller one (--method.patch)")
    masked = min(max(1, round(ratio * patches)), patches - 1)
    draws = torch.rand(len(images), patches, generator=generator, device=generator.device)
    grid = send(draws.argsort(1).argsort(1).ge(masked), images.device).to(images.dtype)
    return over_pixels(grid.view(-1, 1, *counts), patch, sides)


def over_pixels(
    grid: Float[Tensor, "n c *patches"], patch: Sequence[int], sides: Sequence[int]
) -> Float[Tensor, "n c *space"]:
    """The value of each pixel's patch."""
    places = [torch.arange(side, device=grid.device) // each for side, each in zip(sides, patch, strict=True)]
    return grid[..., *torch.meshgrid(*places, indexing="ij")]


def normalised(images: Float[Tensor, "n c *space"], patch: Sequence[int]) -> Float[Tensor, "n c *space"]:
    """Each patch less its mean and over its standard deviation, in each channel by itself."""
    pool, sides = F.avg_pool2d if images.ndim == 4 else F.avg_pool3d, images.shape[2:]

    def mean_of(values: Float[Tensor, "n c *space"]) -> Float[Tensor, "n c *space"]:
        return over_pixels(pool(values, tuple(patch), ceil_mode=True), patch, sides)

    centred = images - mean_of(images)
    return centred * (mean_of(centred.square()) + SMALL).rsqrt()


def masked_error(
    restored: Float[Tensor, "n c *space"], target: Float[Tensor, "n c *space"], seen: Float[Tensor, "n 1 *space"]
) -> Float[Tensor, " n"]:
    """Mean squared error of each slice over its masked pixels and its channels."""
    masked, places = 1 - seen, tuple(range(1, seen.ndim))
    return ((restored - target).square().mean(1, keepdim=True) * masked).sum(places) / masked.sum(places)
