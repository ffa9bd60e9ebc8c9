"""Small techniques, slices and blocks for them, and the recipe's loss as slow loops."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from jcl import semi
from jcl.augment.labelled import LabelledRanges
from jcl.backbones import Backbone, dimensions_of
from jcl.backbones.unet import UNet
from jcl.backbones.unet3d import UNet3D
from jcl.data.batches import SliceBatch
from jcl.data.blocks import BlockBatch
from jcl.data.manifest import IGNORE
from jcl.losses.segmentation import LOSSES

CLASSES = 3
SURE = {"unimatch": {"threshold": 0.3}, "self_training": {"threshold": 0.3}}
"""Fresh weights are sure of nothing; with these settings some of their guesses count."""

END = semi.Progress(9, 10)
BEGINNING = semi.Progress(0, 10)


def network(width: int = 4, dimensions: int = 2) -> Backbone:
    """Of blocks: with two levels below the first, which leave the slices as they are and halve them."""
    if dimensions == 3:
        return UNet3D(in_channels=1, classes=CLASSES, width=width, strides=((1, 2, 2), (2, 2, 2)))
    return UNet(in_channels=1, classes=CLASSES, width=width)


def make(
    name: str,
    *,
    loss: str = "dice_cross_entropy",
    width: int = 4,
    ranges: LabelledRanges | None = None,
    dimensions: int = 2,
    **settings,
) -> semi.Technique:
    torch.manual_seed(0)
    usual = LabelledRanges(elastic=0.05, intensity=1.0) if ranges is None else ranges
    another = partial(network, width, dimensions)
    supervision = semi.Supervision(loss=partial(LOSSES[loss], ignore=IGNORE), ranges=usual, another=another)
    return semi.build(name, another(), supervision, {**SURE.get(name, {}), **settings})


def slices(labelled: int = 4, unlabelled: int = 3, *, seed: int = 0, size: int = 32) -> tuple[SliceBatch, SliceBatch]:
    """Labelled slices whose brightness tells the class, and slices without labels."""
    generator = Generator().manual_seed(seed)
    coarse = torch.rand(labelled + unlabelled, 1, 4, 4, generator=generator)
    images = nn.functional.interpolate(coarse, size=size, mode="bilinear")
    each = {"positions": torch.linspace(0.1, 1, len(images)), "volumes": torch.arange(len(images))}
    return _parted(SliceBatch(images=images, labels=_classes(images), **each), labelled)


def blocks(
    labelled: int = 4, unlabelled: int = 3, *, seed: int = 0, shape: tuple[int, int, int] = (4, 16, 16)
) -> tuple[BlockBatch, BlockBatch]:
    """The same in three dimensions; every other block has slices too thick to be tilted."""
    generator = Generator().manual_seed(seed)
    coarse = torch.rand(labelled + unlabelled, 1, 3, 4, 4, generator=generator)
    images = nn.functional.interpolate(coarse, size=shape, mode="trilinear")
    count = len(images)
    each = {"positions": torch.linspace(0.1, 1, count), "volumes": torch.arange(count)}
    aspects = torch.tensor([1.5, 4.0]).repeat(count)[:count]
    return _parted(BlockBatch(images=images, labels=_classes(images), aspects=aspects, **each), labelled)


def _classes(images: Tensor) -> Tensor:
    return (images[:, 0] * CLASSES).long().clamp(max=CLASSES - 1)


def _parted(batch, labelled: int):
    rows = torch.arange(len(batch.images))
    return batch.rows(rows[:labelled]), replace(batch.rows(rows[labelled:]), labels=None)


class Kind(NamedTuple):
    """A technique, and whether it learns of slices or of blocks."""

    name: str
    dimensions: int

    def make(self, **settings) -> semi.Technique:
        return make(self.name, dimensions=self.dimensions, **settings)

    def batches(self, *counts: int, seed: int = 0) -> tuple[SliceBatch, SliceBatch]:
        return (slices if self.dimensions == 2 else blocks)(*counts, seed=seed)


KINDS = [Kind(name, dimensions) for name in semi.available() for dimensions in semi.load(name).dimensions]


def losses_of(
    technique: semi.Technique, progress: semi.Progress = END, *, seed: int = 0, given=None
) -> dict[str, Tensor]:
    given = (blocks if dimensions_of(technique.backbone) == 3 else slices)() if given is None else given
    return technique(technique.views(*given, Generator().manual_seed(seed)), progress)


@torch.no_grad()
def without_batch_statistics(technique: semi.Technique) -> semi.Technique:
    """Each slice or block for itself: batch normalisation with running statistics, which are those of some of them.

    The heads say more than fresh ones, of which every pixel is nearly alike.
    """
    in_space = dimensions_of(technique.backbone) == 3
    images = torch.cat([each.images for each in (blocks(8, 8, seed=7) if in_space else slices(8, 8, seed=7, size=16))])
    for each in technique.children():
        for module in each.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
                module.momentum = 1.0
        each.train()(images)
        each.eval()
        each.get_submodule("head").weight.mul_(5)
    return technique


def probabilities(logits: Tensor) -> list[list[list[float]]]:
    """Of one slice (k, h, w): by row, column and class."""
    _, height, width = logits.shape
    return [[chances_at(logits, (row, column)) for column in range(width)] for row in range(height)]


def places(sides: Iterable[int]) -> Iterator[tuple[int, ...]]:
    """Of all pixels of a slice, or voxels of a block."""
    return product(*map(range, sides))


def chances_at(logits: Tensor, place: tuple[int, ...]) -> list[float]:
    """Probability of each class at one pixel or voxel of logits (k, h, w) or (k, d, h, w)."""
    values = [math.exp(float(each[place])) for each in logits]
    return [value / sum(values) for value in values]


def slow_loss(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Dice + cross-entropy of some slices or blocks: logits (k, ...) and classes, those of `IGNORE` left out."""
    terms: list[float] = []
    both, either = [0.0] * CLASSES, [0.0] * CLASSES
    for logits, classes in pairs:
        for place in places(classes.shape):
            truth = int(classes[place])
            if truth == IGNORE:
                continue
            chances = chances_at(logits, place)
            terms.append(-math.log(chances[truth]))
            for k, chance in enumerate(chances):
                both[k] += chance * (k == truth)
                either[k] += chance + (k == truth)
    dice = [(2 * b + 1e-5) / (e + 1e-5) for b, e in zip(both[1:], either[1:], strict=True)]
    return sum(terms) / max(1, len(terms)) + 1 - sum(dice) / len(dice)
