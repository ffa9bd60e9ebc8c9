"""Mean teacher: agree with an average of oneself (Tarvainen and Valpola, 2017, arXiv:1703.01780)."""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from jcl.augment.batches import augment_batch, change_batch, place_batch
from jcl.backbones import Backbone
from jcl.data.batches import SliceBatch
from jcl.semi._base import Progress, Supervision, Technique, logits_of
from jcl.semi._schedule import rising_momentum, rising_weight
from jcl.ssl.momentum import make_teacher, update_ema

__all__ = ["MeanTeacher"]


class MeanTeacher(Technique):
    """Student f and teacher g, the moving average of its weights, see each unlabelled slice, or block, u differently.

        L = L_labelled + weight w(t) mean | softmax f(a(u)) - softmax g(b(u)) |^2

    The mean is over slices, classes and pixels (or voxels), as in UA-MT (Yu et al., MICCAI 2019, arXiv:1907.07034)
    without its mask of uncertainty. a and b are two draws of noise, contrast, brightness, gamma and sharpness; u lies
    in the same place in both. w(t) is 0 in the warm-up and then rises; the teacher's momentum rises from 1/2 to
    `momentum`.

    Labelled and unlabelled slices pass through the student as one batch, whose statistics normalise both. The teacher
    normalises with the statistics of the batch at hand, as in UA-MT. What is kept is the student (or its average, where
    the recipe takes one, which is a teacher too).
    """

    dimensions = (2, 3)

    def __init__(
        self,
        backbone: Backbone,
        supervision: Supervision,
        *,
        weight: float = 5.0,
        momentum: float = 0.99,
        strength: float = 1.0,
        warmup: float = 0.1,
        rampup: float = 0.4,
    ) -> None:
        """Set up the teacher of `backbone`.

        Args:
            weight: of the agreement at its highest (UA-MT: 0.1, for 6000 steps; ours is not tuned).
            momentum: of the teacher at its highest (both papers: 0.99).
            strength: of the changes of intensity between the two views; 1 is that of the recipe `strong`.
            warmup: share of the steps on labels alone.
            rampup: share of the steps over which the weight rises (UA-MT: 1).
        """
        super().__init__(backbone, supervision)
        self.weight, self.momentum, self.strength = weight, momentum, strength
        self.warmup, self.rampup = warmup, rampup
        self.teacher = make_teacher(backbone)

    def views(self, labelled: SliceBatch, unlabelled: SliceBatch, generator: Generator) -> dict[str, Tensor]:
        """Labelled slices as the recipe has them; unlabelled ones in one place under two changes of intensity."""
        images, labels = augment_batch(labelled, self.ranges, generator=generator)
        placed = place_batch(unlabelled, self.ranges, generator=generator)
        own, teachers = (change_batch(placed, self.strength, generator=generator) for _ in range(2))
        return {"images": images, "labels": labels, "own": own, "teachers": teachers}

    def forward(self, views: dict[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        """The loss of the labels alone, or that and the agreement."""
        images, labels = views["images"], views["labels"]
        weight = self.weight * rising_weight(progress.share, warmup=self.warmup, rampup=self.rampup)
        if not weight:
            supervised = self.loss_of(logits_of(self.backbone, images), labels)
            return {"loss": supervised, "supervised": supervised}
        known, unknown = logits_of(self.backbone, torch.cat([images, views["own"]])).split(
            [len(images), len(views["own"])]
        )
        with torch.no_grad():
            target = logits_of(self.teacher, views["teachers"]).float().softmax(1)
        supervised = self.loss_of(known, labels)
        agreement = F.mse_loss(unknown.float().softmax(1), target)
        return {"loss": supervised + weight * agreement, "supervised": supervised, "agreement": agreement}

    def after_step(self, progress: Progress) -> None:
        """The teacher follows."""
        update_ema(self.teacher, self.backbone, rising_momentum(progress.done, self.momentum))
