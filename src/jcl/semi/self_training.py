"""Self-training: what was learned of the labels alone labels the other scans (Xie et al., 2020, arXiv:1911.04252)."""

import torch
from torch import Generator, Tensor

from jcl.augment.batches import augment_batch, change_batch, place_batch
from jcl.backbones import Backbone
from jcl.data.batches import SliceBatch
from jcl.data.manifest import IGNORE
from jcl.semi._base import Progress, Supervision, Technique, logits_of
from jcl.semi._schedule import rising_momentum
from jcl.ssl.momentum import make_teacher, update_ema

__all__ = ["SelfTraining"]


class SelfTraining(Technique):
    """A teacher that learned of labels alone, and stays as it is, guesses what unlabelled slices, or blocks, show.

        L = L_labelled + weight L(f(a(u)), argmax g(u), where g is sure)

    In the warm-up the teacher g is the moving average of the student f, which learns of labels alone. Then g is frozen:
    a guess that is wrong cannot, as with a teacher that follows, make the next one worse. g sees the slice u as it is,
    f under the recipe's changes of intensity a; both see it in the same place. A guess counts where its probability is
    at least `threshold`.

    Adapted from the noisy student: one round of it, in which the student goes on instead of beginning anew; the noise
    is that of the recipe. The teacher normalises with the statistics of the batch at hand, so that it adjusts to scans
    unlike the labelled ones. What is kept is the student (or its average, where the recipe takes one).
    """

    dimensions = (2, 3)

    def __init__(
        self,
        backbone: Backbone,
        supervision: Supervision,
        *,
        weight: float = 0.5,
        threshold: float = 0.8,
        momentum: float = 0.99,
        warmup: float = 0.5,
    ) -> None:
        """Set up the teacher of `backbone`.

        Args:
            weight: of the slices without labels, where those with labels have 1.
            threshold: probability from which a guess counts.
            momentum: of the teacher at its highest.
            warmup: share of the steps on labels alone, in which the teacher is formed.
        """
        super().__init__(backbone, supervision)
        self.weight, self.threshold, self.momentum, self.warmup = weight, threshold, momentum, warmup
        self.teacher = make_teacher(backbone)

    def views(self, labelled: SliceBatch, unlabelled: SliceBatch, generator: Generator) -> dict[str, Tensor]:
        """Labelled slices as the recipe has them; unlabelled ones in one place, the student's changed."""
        images, labels = augment_batch(labelled, self.ranges, generator=generator)
        placed = place_batch(unlabelled, self.ranges, generator=generator)
        changed = change_batch(placed, self.ranges.intensity, generator=generator)
        return {"images": images, "labels": labels, "placed": placed, "changed": changed}

    def forward(self, views: dict[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        """The loss of the labels alone, or that and the one of the teacher's guesses."""
        images, labels, changed = views["images"], views["labels"], views["changed"]
        if progress.share < self.warmup:
            supervised = self.loss_of(logits_of(self.backbone, images), labels)
            return {"loss": supervised, "supervised": supervised}
        with torch.no_grad():
            confidence, guess = logits_of(self.teacher, views["placed"]).float().softmax(1).max(1)
        sure = confidence >= self.threshold
        known, unknown = logits_of(self.backbone, torch.cat([images, changed])).split([len(images), len(changed)])
        supervised, guessed = self.loss_of(known, labels), self.loss_of(unknown, guess.where(sure, IGNORE))
        return {
            "loss": supervised + self.weight * guessed,
            "supervised": supervised,
            "guessed": guessed,
            "sure": sure.float().mean(),
        }

    def after_step(self, progress: Progress) -> None:
        """The teacher follows as long as the student learns of labels alone."""
        if progress.share <= self.warmup:
            update_ema(self.teacher, self.backbone, rising_momentum(progress.done, self.momentum))
