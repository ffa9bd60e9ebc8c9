"""What the fine-tuning loop asks of a semi-supervised technique."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Generator, Tensor, nn

from jcl.augment.labelled import LabelledRanges
from jcl.backbones import Backbone
from jcl.data.batches import SliceBatch
from jcl.distributed.device import channels_last

__all__ = ["Progress", "Supervision", "Technique", "logits_of"]


@dataclass(frozen=True)
class Progress:
    """How far a training is."""

    done: int
    """Steps that are done."""
    steps: int
    """Of the whole training."""

    @property
    def share(self) -> float:
        """Of the training that is done."""
        return self.done / self.steps


@dataclass(frozen=True, kw_only=True)
class Supervision:
    """How the recipe of the fine-tuning learns of labelled slices or blocks, which every technique takes over.

    Attributes:
        loss: of logits (b, k, h, w) and classes (b, h, w), or (b, k, d, h, w) and (b, d, h, w); those of
            `jcl.data.manifest.IGNORE` left out.
        ranges: of the augmentation.
        another: makes another network with its own first weights; the pre-trained parts are the same.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    ranges: LabelledRanges
    another: Callable[[], Backbone]


class Technique(nn.Module):
    """The network that is fine-tuned, its `backbone`, and what teaches it.

    A technique gives `views` and `forward`, and what else differs from here. The keyword arguments of its constructor
    are its settings (see `jcl.semi.settings`). Other networks that it needs are submodules, so that they are saved and
    resumed; those that learn by gradient ask for one. Whatever they are, `backbone` (or the average of its weights,
    where the recipe takes one) is what is kept in the end.

    One that changes images by `jcl.augment.batches` alone, and nowhere counts on two sides, learns of blocks as it does
    of slices; its `dimensions` say so.
    """

    dimensions: ClassVar[tuple[int, ...]] = (2,)
    """Of the images that it is written for: 2 for slices, 3 for blocks."""

    def __init__(self, backbone: Backbone, supervision: Supervision) -> None:
        super().__init__()
        self.backbone = backbone
        self.loss_of, self.ranges = supervision.loss, supervision.ranges

    def views(self, labelled: SliceBatch, unlabelled: SliceBatch, generator: Generator) -> dict[str, Tensor]:
        """All that a step draws, from the generator alone: images, changed at random, and what mixes them.

        Those with labels are called `images`, and the labels `labels`. Drawn in float32, outside of the precision in
        which the networks run.
        """
        raise NotImplementedError

    def forward(self, views: dict[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        """Scalars: `loss` is minimised, the rest is logged."""
        raise NotImplementedError

    def after_step(self, progress: Progress) -> None:
        """Let a teacher follow; `progress` counts the step that was just made. Here nothing."""


def logits_of(network: nn.Module, images: Float[Tensor, "b c *sides"]) -> Float[Tensor, "b k *sides"]:
    """Logits, of slices or blocks in the memory layout that convolutions are fastest in."""
    return network(images.contiguous(memory_format=channels_last(images.ndim - 2)))
