"""DiRA: discriminative, restorative and adversarial learning together (Haghighi et al., 2022, arXiv:2204.10437)."""

from typing import Unpack

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from jcl.arguments import check_choice
from jcl.augment.intensity import IntensityRanges, jitter
from jcl.backbones import Backbone, crop_like
from jcl.data.batches import SliceBatch
from jcl.distributed.comm import gather
from jcl.errors import UsageError
from jcl.losses.contrastive import queue_info_nce
from jcl.losses.similarity import cosines, unit
from jcl.methods._base import Method, ViewRanges
from jcl.parallel.sending import send
from jcl.ssl.adversary import FORMS, Discriminator, PublishedDiscriminator, contest
from jcl.ssl.collapse import collapse_monitor
from jcl.ssl.heads import InstanceProjector
from jcl.ssl.host_buffer import host_scalar, register_host_scalar, set_host_scalar
from jcl.ssl.key_queue import KeyQueue
from jcl.ssl.momentum import make_teacher, update_ema

__all__ = ["DiRA"]


class DiRA(Method):
    """Encoder and whole decoder: discriminate slices, restore them, and deceive a discriminator (paper, section 3).

    A spatial view x1 of each slice and another, x2, are disturbed by T (intensities, cutout, shuffled windows):

        L = discriminative_weight L_dis + restorative_weight L_res + L_adv
        L_dis = mean_i - log( exp(q_i.k_i / t) / sum_j exp(q_i.k_j / t) ),  with the cosine similarity
        L_res = mean ( x1 - x1' )^2,  x1' the U-Net's output for T(x1)
        L_adv = mean - log D(x1) - log(1 - D(x1'))

    q is the projection of T(x1), k that of T(x2) by a teacher that follows with `momentum`. The paper minimises over
    the network and maximises over D the same objective, adversarial_weight (log D(x1) + log(1 - D(x1'))). With one
    optimiser this is done by reversing a gradient (arXiv:1409.7495): D learns from L_adv in full, and what L_adv
    sends back into x1' is multiplied by - adversarial_weight. At adversarial_weight 0 there is no discriminator.

    Of the paper's discriminative parts (MoCo-v2, Barlow Twins, SimSiam) it is MoCo-v2's, whose negatives are by default
    the keys of the batch of all processes, and with `queue` those of earlier batches, less a slice's own.
    Adapted: single-channel slices, and common ranges of spatial views instead of crops; networks of this
    repository instead of a ResNet-50; D learns at the network's rate with SGD (authors: Adam of its own). What the
    authors' program has otherwise are settings (docs/methods.md).
    """

    learning_rate = 0.01 / 3
    """By the sweep of rates in docs/methods.md. The paper has Adam."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        discriminative_weight: float = 1.0,
        restorative_weight: float = 10.0,
        adversarial_weight: float = 0.001,
        temperature: float = 0.2,
        momentum: float = 0.999,
        projection: int = 128,
        channels: int = 1,
        windows: int = 4,
        discriminator_width: int = 64,
        queue: int = 0,
        adversary: str = "minimax",
        adversary_from: float = 0.0,
        discriminator: str = "paper",
        **ranges: Unpack[ViewRanges],
    ) -> None:
        """Set up projector, restoring layer and discriminator around `backbone`, and the teacher.

        Args:
            discriminative_weight: lambda_dis (paper: 1).
            restorative_weight: lambda_res (paper: 10).
            adversarial_weight: lambda_adv (paper: 0.001); 0 leaves the discriminator out.
            temperature: t (MoCo-v2: 0.2).
            momentum: the teacher's (MoCo: 0.999).
            projection: channels of the projections (MoCo: 128).
            channels: of the slices.
            windows: windows that are cut out, and as many that are shuffled, in each view (0: intensities only).
            discriminator_width: channels of its first layer.
            queue: keys of earlier batches that are the negatives (authors' program: 65536); 0: those of the batch.
            adversary: form of L_adv: `minimax` (paper), `bce`, the same without saturation, or `least-squares`
                (authors' program); the last two have the network and D learn from parts of their own.
            adversary_from: share of the run after which L_adv is added (authors' program: 0.75, which is 1200 epochs
                without it and 400 with it).
            discriminator: as in the `paper`, or in the authors' `program`: a convolution more, instance normalisation.

        Raises:
            UsageError: `adversary` or `discriminator` has a value that is not offered.
        """
        super().__init__(backbone, **ranges)
        check_choice("adversary", adversary, *FORMS)
        check_choice("discriminator", discriminator, "paper", "program")
        self.discriminative_weight, self.restorative_weight = discriminative_weight, restorative_weight
        self.adversarial_weight, self.adversary, self.adversary_from = adversarial_weight, adversary, adversary_from
        self.temperature, self.momentum = temperature, momentum
        self.channels, self.windows = channels, windows
        self.intensity = IntensityRanges()
        blocks = backbone.blocks
        self.projector = InstanceProjector(backbone.feature_channels[-1], projection)
        self.restorer = nn.Conv2d(backbone.decoder_channels(blocks), channels, 1)
        judge = Discriminator if discriminator == "paper" else PublishedDiscriminator
        self.discriminator = judge(channels, discriminator_width) if adversarial_weight else None
        self.teacher = make_teacher(backbone)
        self.teacher_projector = make_teacher(self.projector)
        self.pretrained_modules = backbone.submodule_names(blocks)
        self.queue = KeyQueue(queue, projection) if queue else None
        self.arrived: dict[str, Tensor] = {}
        if adversary_from:
            register_host_scalar(self, "progress", 0.0)

    def views(self, batch: SliceBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        """The disturbed views T(x1) of all slices and then T(x2), and the undisturbed x1.

        Raises:
            UsageError: the slices have not `channels` channels.
        """
        if batch.images.shape[1] != self.channels:
            raise UsageError(f"slices of {batch.images.shape[1]} channels: set --method.channels to that")
        first, second = self.two_views(batch, generator)
        disturbed = [self._disturb(view, generator) for view in (first, second)]
        return torch.cat(disturbed), first

    def forward(self, views: tuple[Tensor, ...], batch: SliceBatch) -> dict[str, Tensor]:
        """The three losses, their weighted sum, and the collapse monitor (see `Method`)."""
        query, key = views[0].chunk(2)
        target = views[1]
        features = self.backbone.encode(query)
        q = gather(self.projector(features[-1]))
        with torch.no_grad():
            k = gather(self.teacher_projector(self.teacher.encode(key)[-1]))
        restored = crop_like(self.restorer(self.backbone.decode(features)), target).float()
        losses = {
            "discriminative": self._contrast(q, k, batch),
            "restorative": gather((restored - target).square().mean((1, 2, 3))).mean(),
        }
        total = self.discriminative_weight * losses["discriminative"] + self.restorative_weight * losses["restorative"]
        if self.discriminator is not None and self._has_begun():
            added, parts = contest(
                self.discriminator, target, restored, form=self.adversary, weight=self.adversarial_weight
            )
            total = total + gather(added).mean()
            losses.update({name: gather(part).mean() for name, part in parts.items()})
        return {"loss": total, **losses, **collapse_monitor(q, k)}

    def after_step(self, progress: float) -> None:
        """Queue the keys of the step, of all processes, and let the teacher follow the student."""
        if self.queue is not None and self.arrived:
            self.queue.push(**self.arrived)
        self.arrived = {}
        if self.adversary_from:
            set_host_scalar(self, "progress", progress)
        update_ema(self.teacher, self.backbone, self.momentum)
        update_ema(self.teacher_projector, self.projector, self.momentum)

    def _has_begun(self) -> bool:
        """Whether the discriminator takes part by now."""
        return not self.adversary_from or host_scalar(self, "progress") >= self.adversary_from

    def _contrast(self, q: Float[Tensor, "n d"], k: Float[Tensor, "n d"], batch: SliceBatch) -> Float[Tensor, ""]:
        """L_dis against the keys of the batch, or of the queue."""
        if self.queue is None:
            return contrast(q, k, temperature=self.temperature)
        volumes, positions = gather(batch.volumes), gather(batch.positions)
        self.arrived = {"keys": unit(k), "volumes": volumes, "positions": positions}
        own = self.queue.own(volumes, positions)
        return queue_info_nce(q, k, self.queue["keys"], own, temperature=self.temperature)

    def _disturb(self, images: Tensor, generator: Generator) -> Tensor:
        """T: intensities, and then windows that are shuffled or emptied."""
        images = jitter(images, self.intensity, generator=generator)
        for _ in range(self.windows):
            images = shuffle_window(images, generator=generator)
            images = cut_out(images, generator=generator)
        return images


def contrast(q: Float[Tensor, "n d"], k: Float[Tensor, "n d"], *, temperature: float) -> Float[Tensor, ""]:
    """L_dis: each query picks its own key among all."""
    return F.cross_entropy(cosines(q, k) / temperature, torch.arange(len(q), device=q.device))


def cut_out(images: Float[Tensor, "n c h w"], *, generator: Generator) -> Float[Tensor, "n c h w"]:
    """A window of 1/5 of the sides emptied in each image."""
    pixels = _window(images, 5, generator)[:, None, :].expand(-1, images.shape[1], -1)
    return images.flatten(2).scatter(2, pixels, 0.0).view_as(images)


def shuffle_window(images: Float[Tensor, "n c h w"], *, generator: Generator) -> Float[Tensor, "n c h w"]:
    """The pixels of a window of 1/8 of the sides in another order in each image."""
    pixels = _window(images, 8, generator)
    order = send(torch.rand(pixels.shape, generator=generator, device=generator.device).argsort(1), images.device)
    target = pixels[:, None, :].expand(-1, images.shape[1], -1)
    source = pixels.gather(1, order)[:, None, :].expand_as(target)
    flat = images.flatten(2)
    return flat.scatter(2, target, flat.gather(2, source)).view_as(images)


def _window(images: Float[Tensor, "n c h w"], parts: int, generator: Generator) -> Int[Tensor, "n p"]:
    """Numbers of the pixels of one window in each image, as high and wide as the image over `parts`, row by row."""
    height, width = images.shape[-2:]
    rows, columns = (torch.arange(max(1, side // parts), device=images.device) for side in (height, width))
    draws = send(torch.rand(2, len(images), 1, 1, generator=generator, device=generator.device), images.device)
    top = (draws[0] * (height - len(rows) + 1)).long()
    left = (draws[1] * (width - len(columns) + 1)).long()
    return ((top + rows[:, None]) * width + left + columns).flatten(1)
