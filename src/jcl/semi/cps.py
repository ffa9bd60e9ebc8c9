"""CPS: two networks teach each other by their hard guesses (Chen et al., CVPR 2021, arXiv:2106.01226)."""

import torch
from torch import Generator, Tensor

from jcl.augment.batches import augment_batch
from jcl.backbones import Backbone
from jcl.data.batches import SliceBatch
from jcl.semi._base import Progress, Supervision, Technique, logits_of
from jcl.semi._schedule import rising_weight
from jcl.semi._views import augment_alone

__all__ = ["CPS"]


class CPS(Technique):
    """Networks f and g of one kind and different first weights, both on all slices, or blocks, x (section 3).

        L = L_labelled(f) + L_labelled(g) + weight w(t) [ L(f(x), argmax g(x)) + L(g(x), argmax f(x)) ]

    over labelled and unlabelled slices in the last part, with the recipe's loss L: cross-entropy as in the paper with
    `paper`, and Dice beside it with `strong`. w(t), which the paper has not, is 0 in the warm-up and then rises, as two
    networks that have seen few labels would teach each other their faults. No gradient passes a guess.

    Where there are pre-trained weights, both begin with them, and differ in what is new (the head, and decoder blocks
    that were not pre-trained) and in nothing else. What is kept is f (or its average, where the recipe takes one).
    Both see the same views, as in the paper without its CutMix.
    """

    dimensions = (2, 3)

    def __init__(
        self,
        backbone: Backbone,
        supervision: Supervision,
        *,
        weight: float = 1.5,
        warmup: float = 0.1,
        rampup: float = 0.4,
    ) -> None:
        """Set up the second network beside `backbone`.

        Args:
            weight: of the guesses at its highest (paper: 1.5 on PASCAL VOC, 6 on Cityscapes).
            warmup: share of the steps on labels alone (paper: 0).
            rampup: share of the steps over which the weight rises (paper: 0).
        """
        super().__init__(backbone, supervision)
        self.weight, self.warmup, self.rampup = weight, warmup, rampup
        self.second = supervision.another()

    def views(self, labelled: SliceBatch, unlabelled: SliceBatch, generator: Generator) -> dict[str, Tensor]:
        """Both kinds of slices under the recipe's changes."""
        images, labels = augment_batch(labelled, self.ranges, generator=generator)
        return {
            "images": images,
            "labels": labels,
            "unlabelled": augment_alone(unlabelled, self.ranges, generator=generator),
        }

    def forward(self, views: dict[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        """The loss of the labels for both networks, alone or with that of each other's guesses."""
        images, labels = views["images"], views["labels"]
        weight = self.weight * rising_weight(progress.share, warmup=self.warmup, rampup=self.rampup)
        slices = torch.cat([images, views["unlabelled"]]) if weight else images
        first, second = logits_of(self.backbone, slices), logits_of(self.second, slices)
        supervised = self.loss_of(first[: len(images)], labels) + self.loss_of(second[: len(images)], labels)
        if not weight:
            return {"loss": supervised, "supervised": supervised}
        crossed = self.loss_of(first, second.argmax(1)) + self.loss_of(second, first.argmax(1))
        return {"loss": supervised + weight * crossed, "supervised": supervised, "guessed": crossed}
