"""Small techniques, slices for them, and the recipe's loss as slow loops."""

import math
from collections.abc import Iterable
from functools import partial

import torch
from torch import Generator, Tensor, nn

from jcl import semi
from jcl.augment.labelled import LabelledRanges
from jcl.backbones.unet import UNet
from jcl.data.manifest import IGNORE
from jcl.losses.segmentation import LOSSES

CLASSES = 3
SURE = {"unimatch": {"threshold": 0.3}, "self_training": {"threshold": 0.3}}
"""Fresh weights are sure of nothing; with these settings some of their guesses count."""

END = semi.Progress(9, 10)
BEGINNING = semi.Progress(0, 10)


def network(width: int = 4) -> UNet:
    return UNet(in_channels=1, classes=CLASSES, width=width)


def make(
    name: str, *, loss: str = "dice_cross_entropy", width: int = 4, ranges: LabelledRanges | None = None, **settings
) -> semi.Technique:
    torch.manual_seed(0)
    usual = LabelledRanges(elastic=0.05, intensity=1.0) if ranges is None else ranges
    another = partial(network, width)
    supervision = semi.Supervision(loss=partial(LOSSES[loss], ignore=IGNORE), ranges=usual, another=another)
    return semi.build(name, network(width), supervision, {**SURE.get(name, {}), **settings})


def slices(labelled: int = 4, unlabelled: int = 3, *, seed: int = 0, size: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    """Labelled slices whose brightness tells the class, their labels, and slices without."""
    generator = Generator().manual_seed(seed)
    coarse = torch.rand(labelled + unlabelled, 1, 4, 4, generator=generator)
    images = nn.functional.interpolate(coarse, size=size, mode="bilinear")
    labels = (images[:labelled, 0] * CLASSES).long().clamp(max=CLASSES - 1)
    return images[:labelled], labels, images[labelled:]


def losses_of(
    technique: semi.Technique, progress: semi.Progress = END, *, seed: int = 0, given=None
) -> dict[str, Tensor]:
    images, labels, unlabelled = slices() if given is None else given
    return technique(technique.views(images, labels, unlabelled, Generator().manual_seed(seed)), progress)


@torch.no_grad()
def without_batch_statistics(technique: semi.Technique) -> semi.Technique:
    """Each slice for itself: batch normalisation with running statistics, which are those of some slices.

    The heads say more than fresh ones, of which every pixel is nearly alike.
    """
    images = torch.cat(slices(8, 8, seed=7, size=16)[::2])
    for each in technique.children():
        for module in each.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        each.train()(images)
        each.eval()
        each.get_submodule("head").weight.mul_(5)
    return technique


def probabilities(logits: Tensor) -> list[list[list[float]]]:
    """Of one slice (k, h, w): by row, column and class."""
    found = []
    for row in range(logits.shape[1]):
        found.append([])
        for column in range(logits.shape[2]):
            values = [math.exp(float(value)) for value in logits[:, row, column]]
            found[-1].append([value / sum(values) for value in values])
    return found


def slow_loss(slices: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Dice + cross-entropy of some slices: logits (k, h, w) and classes (h, w), those of `IGNORE` left out."""
    terms: list[float] = []
    both, either = [0.0] * CLASSES, [0.0] * CLASSES
    for logits, classes in slices:
        chances = probabilities(logits)
        for row in range(classes.shape[0]):
            for column in range(classes.shape[1]):
                truth = int(classes[row, column])
                if truth == IGNORE:
                    continue
                terms.append(-math.log(chances[row][column][truth]))
                for k, chance in enumerate(chances[row][column]):
                    both[k] += chance * (k == truth)
                    either[k] += chance + (k == truth)
    dice = [(2 * b + 1e-5) / (e + 1e-5) for b, e in zip(both[1:], either[1:], strict=True)]
    return sum(terms) / max(1, len(terms)) + 1 - sum(dice) / len(dice)
