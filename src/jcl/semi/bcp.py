"""BCP: bidirectional copy-paste of labelled and unlabelled slices (Bai et al., CVPR 2023, arXiv:2305.00673)."""

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from jcl.augment.batches import augment_batch
from jcl.backbones import Backbone
from jcl.data.batches import SliceBatch
from jcl.data.manifest import IGNORE
from jcl.semi._base import Progress, Supervision, Technique, logits_of
from jcl.semi._schedule import rising_momentum
from jcl.semi._views import augment_alone, boxes_of_side
from jcl.ssl.momentum import make_teacher, update_ema

__all__ = ["BCP"]


class BCP(Technique):
    """A labelled slice x (labels y) and an unlabelled one u (the teacher's guess p) change places in a box B.

    With L(z, y | B) the recipe's loss of the student at z over the pixels of B, and C all other pixels,

        in = x within B, u outside;  out = u within B, x outside
        L = 1/2 [ L(in, y | B) + L(out, y | C) + weight (L(in, p | C) + L(out, p | B)) ]

    so that each pixel of a labelled slice is learned once a step. Before, in the warm-up, labelled slices are pasted
    into each other, with their labels. The teacher is the moving average of the student, from the first step on.

    Adapted: the paper mixes half of the labelled slices inwards and the other half outwards, here all are mixed in both
    ways; each slice has a box of its own; its loss, Dice + cross-entropy, is that of the recipe `strong`, and that of
    `paper` is taken where that is asked for. The largest component of each class in the guess is not chosen, since that
    cannot be done without waiting for the device. The teacher normalises with the statistics of the batch at hand. What
    is kept is the student (or its average, where the recipe takes one). Blocks change places in boxes of three sides.
    """

    dimensions = (2, 3)

    def __init__(
        self,
        backbone: Backbone,
        supervision: Supervision,
        *,
        weight: float = 0.5,
        box: float = 2 / 3,
        momentum: float = 0.99,
        warmup: float = 0.25,
    ) -> None:
        """Set up the teacher of `backbone`.

        Args:
            weight: of pixels with a guess, where those with labels have 1 (paper: 0.5).
            box: side of the box as a share of the slice's (paper: 2/3).
            momentum: of the teacher at its highest (paper: 0.99).
            warmup: share of the steps on labels alone (paper: 10,000 of 40,000).
        """
        super().__init__(backbone, supervision)
        self.weight, self.box, self.momentum, self.warmup = weight, box, momentum, warmup
        self.teacher = make_teacher(backbone)

    def views(self, labelled: SliceBatch, unlabelled: SliceBatch, generator: Generator) -> dict[str, Tensor]:
        """Both kinds of slices under the recipe's changes, and a box for each pair."""
        images, labels = augment_batch(labelled, self.ranges, generator=generator)
        others = augment_alone(unlabelled, self.ranges, generator=generator)
        pairs = max(len(images), len(others))
        boxes = boxes_of_side(pairs, images.shape[2:], self.box, generator=generator, device=images.device)
        return {"images": images, "labels": labels, "unlabelled": others, "boxes": boxes}

    def forward(self, views: dict[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        """The loss of labelled slices pasted into each other, or of labelled and unlabelled ones."""
        images, labels, boxes = views["images"], views["labels"], views["boxes"]
        if progress.share < self.warmup:
            inside = boxes[: len(images)]
            mixed = logits_of(self.backbone, paste(images.roll(1, 0), images, inside))
            supervised = self.loss_of(mixed, torch.where(inside, labels.roll(1, 0), labels))
            return {"loss": supervised, "supervised": supervised}
        with torch.no_grad():
            guessed = logits_of(self.teacher, views["unlabelled"]).argmax(1)
        images, labels = repeated(images, len(boxes)), repeated(labels, len(boxes))
        unlabelled, guessed = repeated(views["unlabelled"], len(boxes)), repeated(guessed, len(boxes))
        both = torch.cat([paste(images, unlabelled, boxes), paste(unlabelled, images, boxes)])
        inward, outward = logits_of(self.backbone, both).chunk(2)
        known = self.loss_of(inward, labels.where(boxes, IGNORE)) + self.loss_of(outward, labels.where(~boxes, IGNORE))
        guess = self.loss_of(inward, guessed.where(~boxes, IGNORE)) + self.loss_of(
            outward, guessed.where(boxes, IGNORE)
        )
        return {"loss": (known + self.weight * guess) / 2, "supervised": known / 2, "guessed": guess / 2}

    def after_step(self, progress: Progress) -> None:
        """The teacher follows."""
        update_ema(self.teacher, self.backbone, rising_momentum(progress.done, self.momentum))


def paste(
    inner: Float[Tensor, "b c *sides"], outer: Float[Tensor, "b c *sides"], boxes: Bool[Tensor, " b *sides"]
) -> Float[Tensor, "b c *sides"]:
    """`inner` within the boxes, `outer` around them."""
    return torch.where(boxes[:, None], inner, outer)


def repeated(rows: Tensor, count: int) -> Tensor:
    """So many rows: those at hand, from the first one again where they are used up."""
    times = -(-count // len(rows))
    return rows if count == len(rows) else torch.cat([rows] * times)[:count]
