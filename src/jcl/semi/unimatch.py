"""UniMatch: one guess for two strong views and for disturbed features (Yang et al., CVPR 2023, arXiv:2208.09910)."""

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from jcl.augment.batches import augment_batch, change_batch, place_batch
from jcl.backbones import Backbone
from jcl.data.batches import SliceBatch
from jcl.data.manifest import IGNORE
from jcl.distributed.device import channels_last
from jcl.errors import UsageError
from jcl.parallel.sending import send
from jcl.semi._base import Progress, Supervision, Technique, logits_of
from jcl.semi._schedule import rising_weight
from jcl.semi._views import boxes_of_area

__all__ = ["UniMatch"]


class UniMatch(Technique):
    """What the network says of an unlabelled slice, where it is sure, teaches it on that slice made difficult.

    The weak view lies in some place and has the intensities of the scan; its guess counts where its probability is at
    least `threshold`. The two strong views are the weak one under other intensities and with a box of another slice
    (CutMix: its guess is pasted likewise). The fourth stream is the weak view whose features are disturbed: `dropout`
    of the channels of every level of the encoder are set to 0. With L over the pixels whose guess counts,

        L = 1/2 [ L_labelled + w(t) (1/4 L(strong 1) + 1/4 L(strong 2) + 1/2 L(features)) ]

    The guess is the student's own, from the same pass (there is no teacher), and no gradient passes it. w(t) is 0 in
    the warm-up, which the paper has not, and then as `rampup` says.

    Adapted: the other slice of CutMix is the next one of the batch (the authors load another batch, and guess on it
    without dropout and batch statistics); L is the recipe's loss (authors: cross-entropy on natural images, Dice on
    medical ones). What is kept is the network (or its average, where the recipe takes one). Of blocks the boxes have
    three sides (`boxes_of_area`).
    """

    dimensions = (2, 3)

    def __init__(
        self,
        backbone: Backbone,
        supervision: Supervision,
        *,
        threshold: float = 0.95,
        strength: float = 1.5,
        dropout: float = 0.5,
        warmup: float = 0.1,
        rampup: float = 0.0,
    ) -> None:
        """Hold the network and what makes slices difficult.

        Args:
            threshold: probability from which a guess counts (paper: 0.95).
            strength: of the strong views' changes of intensity; 1 is that of the recipe `strong`.
            dropout: share of the channels that the disturbed features lack (paper: 0.5).
            warmup: share of the steps on labels alone (paper: 0).
            rampup: share of the steps over which the weight of unlabelled slices rises (paper: 0).

        Raises:
            UsageError: a network of one's own that does not say how it makes logits of features.
        """
        super().__init__(backbone, supervision)
        if not hasattr(backbone, "logits"):
            kind = type(backbone).__name__
            raise UsageError(f"unimatch disturbs features, and {kind} has no `logits`; see jcl.backbones.Backbone")
        self.threshold, self.strength, self.dropout = threshold, strength, dropout
        self.warmup, self.rampup = warmup, rampup

    def views(self, labelled: SliceBatch, unlabelled: SliceBatch, generator: Generator) -> dict[str, Tensor]:
        """The weak view, two strong ones with the boxes that were exchanged, and factors of the features' channels."""
        images, labels = augment_batch(labelled, self.ranges, generator=generator)
        weak = place_batch(unlabelled, self.ranges, generator=generator)
        views = {"images": images, "labels": labels, "weak": weak}
        count, shape = len(weak), weak.shape[2:]
        for number in (1, 2):
            changed = change_batch(weak, self.strength, generator=generator)
            boxes = boxes_of_area(count, shape, generator=generator, device=weak.device)
            views[f"boxes{number}"] = boxes
            views[f"strong{number}"] = torch.where(boxes[:, None], changed.roll(1, 0), changed)
        for level, channels in enumerate(self.backbone.feature_channels):
            draws = send(torch.rand(count, channels, generator=generator, device=generator.device), weak.device)
            views[f"factors{level}"] = (draws >= self.dropout).float() / (1 - self.dropout)
        return views

    def forward(self, views: dict[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        """The loss of the labels, alone or with that of the three disturbed streams."""
        images, labels = views["images"], views["labels"]
        weight = rising_weight(progress.share, warmup=self.warmup, rampup=self.rampup)
        if not weight:
            supervised = self.loss_of(logits_of(self.backbone, images), labels)
            return {"loss": supervised / 2, "supervised": supervised}
        known, plain, disturbed = self._disturbed(views)
        confidence, guess = plain.detach().float().softmax(1).max(1)
        both = torch.cat([views["strong1"], views["strong2"]])
        supervised, guessed = self.loss_of(known, labels), self.loss_of(disturbed, self._sure(guess, confidence)) / 2
        for number, logits in enumerate(logits_of(self.backbone, both).chunk(2), 1):
            boxes = views[f"boxes{number}"]
            mixed = (torch.where(boxes, each.roll(1, 0), each) for each in (guess, confidence))
            guessed = guessed + self.loss_of(logits, self._sure(*mixed)) / 4
        return {
            "loss": (supervised + weight * guessed) / 2,
            "supervised": supervised,
            "guessed": guessed,
            "sure": (confidence >= self.threshold).float().mean(),
        }

    def _disturbed(self, views: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of labelled slices, of the weak view, and of that with channels left out, all decoded as one batch."""
        images, weak = views["images"], views["weak"]
        slices = torch.cat([images, weak]).contiguous(memory_format=channels_last(images.ndim - 2))
        features: list[Tensor] = []
        for number, level in enumerate(self.backbone.encode(slices)):
            factors = views[f"factors{number}"].to(level.dtype)
            factors = factors.view(*factors.shape, *[1] * (level.ndim - 2))
            features.append(torch.cat([level, level[len(images) :] * factors]))
        logits = self.backbone.logits(features, torch.cat([slices, weak]))
        known, plain, disturbed = logits.split([len(images), len(weak), len(weak)])
        return known, plain, disturbed

    def _sure(
        self, guess: Int[Tensor, " m *sides"], confidence: Float[Tensor, " m *sides"]
    ) -> Int[Tensor, " m *sides"]:
        """The guess, ignored where it does not count."""
        return guess.where(confidence >= self.threshold, IGNORE)
