"""What the pre-training loop asks of a method, and what all methods have in common."""

from typing import Any, ClassVar, TypedDict

import torch
from torch import Generator, Tensor, nn

from jcl.augment.published import Published, published_view
from jcl.augment.spatial import AffineRanges, random_view
from jcl.augment.volumetric import random_block_view
from jcl.backbones import Backbone, dimensions_of
from jcl.data.batches import SliceBatch
from jcl.data.blocks import aspects_of, surroundings_of

__all__ = ["Method", "ViewRanges"]


class ViewRanges(TypedDict, total=False):
    """Settings that every method passes on to `Method` as `**ranges: Unpack[ViewRanges]`."""

    rotation: float
    scale: float
    translation: float


class Method(nn.Module):
    """A backbone, and what pre-trains it.

    A method of one's own gives `forward`, and what else differs from here. The keyword arguments of its constructor are
    its settings (see `jcl.methods.settings`).
    """

    learning_rate: float = 0.01
    """Peak learning rate of SGD with momentum that suits the method, unless the user gives one."""

    dimensions: ClassVar[tuple[int, ...]] = (2,)
    """Of the images that it is written for: 2 for slices, 3 for blocks."""

    phases: int = 1
    """Parts of the run, of equal length, that each have a learning-rate schedule of their own (GCL has two)."""

    final_rate: float = 0.0
    """Learning rate at the end of each phase, as a share of the peak."""

    decays_all: bool = True
    """Whether weight decay also holds for biases and for scales of normalisations."""

    clip: float = 0.0
    """Largest norm of the gradient of each parameter by itself; 0: any."""

    pretrained_modules: tuple[str, ...]
    """Names of the backbone's submodules that are trained, and go on to fine-tuning: at first those of the encoder."""

    neighbourhood: float | None = None
    """Whether each slice comes with another of its volume, and how far away that may be (see `SliceDataset`)."""

    further_settings: ClassVar[tuple[type[Any], ...]] = ()
    """Classes whose arguments are settings too: the constructor takes them by `**` with the ranges of the views."""

    def __init__(
        self, backbone: Backbone, *, rotation: float = 30.0, scale: float = 0.3, translation: float = 0.1
    ) -> None:
        """Hold the backbone, and the ranges of the spatial views, which are the same for all methods.

        Args:
            backbone: see `jcl.backbones.Backbone`.
            rotation: degrees to either side.
            scale: 0.3 is a factor from 0.7 to 1.3.
            translation: shift as a share of the side.
        """
        super().__init__()
        self.backbone = backbone
        self.sides = dimensions_of(backbone)
        self.own_views: tuple[Published, Published] | None = None
        self.affine = AffineRanges(rotation=rotation, scale=scale, translation=translation)
        self.pretrained_modules = backbone.submodule_names(0)

    def bottleneck(self, images: Tensor) -> Tensor:
        """The deepest features of the encoder, (b, c, h, w) of slices and (b, c, d, h, w) of blocks."""
        return self.backbone.encode(images)[-1]

    def spatial_view(self, batch: SliceBatch, generator: Generator) -> Tensor:
        """One spatial view of each slice or block, of the size of the images."""
        aspects = aspects_of(batch)
        if aspects is None:
            return random_view(batch.images, self.affine, generator=generator)
        images, _, shape = surroundings_of(batch)
        return random_block_view(images, aspects, self.affine, generator=generator, shape=shape)

    def two_views(self, batch: SliceBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        """Two spatial views of each slice, (n, c, h, w) each; where the method has `own_views`, these."""
        if self.own_views is not None:
            one, other = (published_view(batch.images, view, generator=generator) for view in self.own_views)
            return one, other
        first, second = (self.spatial_view(batch, generator) for _ in range(2))
        return first, second

    def views(self, batch: SliceBatch, generator: Generator) -> tuple[Tensor, ...]:
        """Augmented views of a batch, drawn from the generator alone: here `two_views` in one tensor.

        Each tensor consists of blocks of one row per slice, in the order of the batch: here the first views of all
        slices, then the second ones.
        """
        return (torch.cat(self.two_views(batch, generator)),)

    def forward(self, views: tuple[Tensor, ...], batch: SliceBatch) -> dict[str, Tensor]:
        """Scalars: `loss` is minimised, the rest is logged.

        `feature_std` (1: spread over the sphere, 0: all the same) and `alignment` (mean cosine of positive
        pairs) among them watch for collapse.
        """
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """Update teachers, queues and the phase; `progress` is the share of the run that is done. Here nothing."""
