"""MAE: restore what is masked (He et al., 2022, arXiv:2111.06377), for convolutions (SparK, arXiv:2301.03580)."""

from typing import Unpack

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from jcl.augment.spatial import random_view
from jcl.backbones import Backbone, crop_like, pad_to_multiple
from jcl.data.batches import SliceBatch
from jcl.distributed.comm import gather
from jcl.errors import UsageError
from jcl.methods._base import Method, ViewRanges

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
    """

    learning_rate = 0.1
    """By the loss after 200 steps on la2018: 0.434 at a rate of 0.05, 0.409 at 0.2. The papers have AdamW."""

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
            patch: side of a patch in pixels (MAE: 16 of 224, SparK: 32); 0: a power of 2, about 1/8 of the side.
            normalise: whether each patch is to be restored less its mean and over its deviation (both papers: true).
            sparse: whether masked places are empty in the features that the decoder is given, too (SparK).
        """
        super().__init__(backbone, **ranges)
        self.mask_ratio, self.patch, self.normalise = mask_ratio, patch, normalise
        self.restorer = nn.Conv2d(backbone.decoder_channels(backbone.blocks), backbone.in_channels, 1)
        levels = backbone.feature_channels if sparse else ()
        self.empty = nn.ParameterList(nn.init.trunc_normal_(torch.empty(c, 1, 1), std=0.02) for c in levels)
        self.pretrained_modules = backbone.submodule_names(backbone.blocks)

    def views(self, batch: SliceBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        """A spatial view of each slice, and what of it is seen: (n, c, h, w), and (n, 1, h, w) of 1 and, masked, 0.

        Raises:
            UsageError: a patch is as large as a slice.
        """
        images = random_view(batch.images, self.affine, generator=generator)
        patch = self.patch or fitting_patch(images.shape[-2:])
        return images, visible(images, patch, self.mask_ratio, generator=generator)

    def forward(self, views: tuple[Tensor, ...], batch: SliceBatch) -> dict[str, Tensor]:
        """The loss."""
        images, seen = views
        features = self._emptied(self.backbone.encode(images * seen), seen)
        restored = crop_like(self.restorer(self.backbone.decode(features)), images).float()
        target = images
        if self.normalise:
            target = normalised(images, self.patch or fitting_patch(images.shape[-2:]))
        return {"loss": gather(masked_error(restored, target, seen)).mean()}

    def _emptied(self, features: list[Tensor], seen: Float[Tensor, "n 1 h w"]) -> list[Tensor]:
        """The features with the learned vectors where nothing is seen; as they are without `sparse`."""
        if not self.empty:
            return features
        whole = 1 - pad_to_multiple(1 - seen, self.backbone.stride)  # what is added at the border is no hole
        there = [F.adaptive_max_pool2d(whole, level.shape[-2:]) > 0 for level in features]
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


def visible(
    images: Float[Tensor, "n c h w"], patch: int, ratio: float, *, generator: Generator
) -> Float[Tensor, "n 1 h w"]:
    """1 where a slice is seen and 0 in `ratio` of its patches, the same number in each slice, at least one each.

    Raises:
        UsageError: there is one patch only.
    """
    height, width = images.shape[-2:]
    rows, columns = -(-height // patch), -(-width // patch)
    if rows * columns < 2:
        raise UsageError(f"patch is {patch}; slices of {height}x{width} need a smaller one (--method.patch)")
    masked = min(max(1, round(ratio * rows * columns)), rows * columns - 1)
    draws = torch.rand(len(images), rows * columns, generator=generator, device=generator.device)
    grid = draws.argsort(1).argsort(1).ge(masked).to(images.device, images.dtype)
    return over_pixels(grid.view(-1, 1, rows, columns), patch, height, width)


def over_pixels(grid: Float[Tensor, "n c r k"], patch: int, height: int, width: int) -> Float[Tensor, "n c h w"]:
    """The value of each pixel's patch."""
    down, across = (torch.arange(side, device=grid.device) // patch for side in (height, width))
    return grid[..., down[:, None], across]


def normalised(images: Float[Tensor, "n c h w"], patch: int) -> Float[Tensor, "n c h w"]:
    """Each patch less its mean and over its standard deviation, in each channel by itself."""
    height, width = images.shape[-2:]

    def mean_of(values: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return over_pixels(F.avg_pool2d(values, patch, ceil_mode=True), patch, height, width)

    centred = images - mean_of(images)
    return centred * (mean_of(centred.square()) + SMALL).rsqrt()


def masked_error(
    restored: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"], seen: Float[Tensor, "n 1 h w"]
) -> Float[Tensor, " n"]:
    """Mean squared error of each slice over its masked pixels and its channels."""
    masked = 1 - seen
    return ((restored - target).square().mean(1, keepdim=True) * masked).sum((1, 2, 3)) / masked.sum((1, 2, 3))
