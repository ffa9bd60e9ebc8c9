"""SwAV: one view predicts to which prototypes the other was assigned (Caron et al., 2020, arXiv:2006.09882)."""

from collections.abc import Sequence
from typing import Unpack

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from jcl.augment.published import SMALL_VIEW, SWAV_VIEWS, published, published_view
from jcl.augment.spatial import AffineRanges, random_affine, shrink, warp
from jcl.backbones import Backbone
from jcl.data.batches import SliceBatch
from jcl.distributed.comm import gather
from jcl.errors import UsageError
from jcl.losses.similarity import unit
from jcl.methods._base import Method, ViewRanges
from jcl.parallel.sending import send
from jcl.ssl.collapse import collapse_monitor
from jcl.ssl.heads import MLP
from jcl.ssl.host_buffer import host_scalar, register_host_scalar, set_host_scalar
from jcl.ssl.memory_bank import MemoryBank

__all__ = ["SwAV"]

ITERATIONS = 3
"""Of Sinkhorn and Knopp (paper, section 3.1)."""

SMALL = 2
"""How many times smaller the side of a small crop is."""


class SwAV(Method):
    """Encoder, projector z and prototypes c, all of unit length (paper, section 3.1).

        L = mean over views s != t of  l(z_t, q_s),   l(z, q) = - sum_k q_k log softmax_k(z.c_k / t)

    The codes q_s spread the rows of view s evenly over the prototypes (`sinkhorn`). They come without gradient, from
    the scores of all processes, and with them of earlier batches from a `queue` once it is full: 16 slices alone
    cannot be spread evenly over many prototypes. Views of one size go through the network in one batch, as in the
    authors' program. Scores, codes and loss are computed in float32 whatever the precision, and the codes in
    logarithms, so that no exponential overflows and none vanishes.

    Adapted: the views are turned, scaled and shifted, as for all methods here, unless `augment` is `own`; colour has no
    meaning for slices of one channel. For the same reason there are no small crops by default (paper: 6): they help any
    method (paper, figure 3), and all are to see the same here. The queue keeps 15 batches of 16 slices, as the paper's
    keeps 15 of 256, and the prototypes are fewer in about the same proportion. Prototypes are frozen, and the queue
    unused, for shares of the run instead of epochs. SGD takes the place of LARS.
    """

    learning_rate = 0.01
    """By the sweep of rates in docs/methods.md; the paper's 0.6 for 256 images (LARS) is 0.04 for 16 slices."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        temperature: float = 0.05,
        epsilon: float = 0.05,
        prototypes: int = 128,
        queue: int = 240,
        queue_from: float = 0.075,
        frozen_until: float = 0.005,
        small_crops: int = 0,
        projection: int = 128,
        hidden: int = 512,
        augment: str = "shared",
        **ranges: Unpack[ViewRanges],
    ) -> None:
        """Set up projector, prototypes and queue around `backbone`.

        Args:
            temperature: t of the prediction (paper: 0.1; half of it by the sweep in docs/methods.md).
            epsilon: how soft the codes are (paper: 0.05).
            prototypes: how many there are (paper: 3000).
            queue: earlier slices that take part in the codes (paper: 3840 for batches of 256); 0 is none.
            queue_from: share of the run after which they do (authors' program: 15 epochs of 200).
            frozen_until: share of the run before which the prototypes stay (authors' program: 1 epoch of 200).
            small_crops: further views of half the side, cut from the slice, that only predict (paper: 6).
            projection: channels of the projections (paper: 128).
            hidden: hidden channels of the projector (paper: 2048).
            augment: `shared`, the views that all methods have; or `own`, the crops and changes of intensity of the
                authors' program, mirrored too, for which `rotation`, `scale` and `translation` do not count.

        Raises:
            UsageError: a number is too small, or `augment` has a value that is not offered.
        """
        super().__init__(backbone, **ranges)
        self.own_views = published(augment, SWAV_VIEWS)
        for name, value, least in (("prototypes", prototypes, 1), ("queue", queue, 0), ("small_crops", small_crops, 0)):
            if value < least:
                raise UsageError(f"{name} is {value}; it has to be at least {least}")
        self.temperature, self.epsilon = temperature, epsilon
        self.queue_from, self.frozen_until, self.small_crops = queue_from, frozen_until, small_crops
        self.projector = MLP(backbone.feature_channels[-1], hidden, projection)
        self.prototypes = nn.Parameter(unit(torch.randn(prototypes, projection)))
        places = torch.zeros(queue, projection)
        self.queue = MemoryBank(first=places, second=places.clone()) if queue else None
        self.arrived: dict[str, Tensor] = {}
        register_host_scalar(self, "progress", 0.0)

    def views(self, batch: SliceBatch, generator: Generator) -> tuple[Tensor, ...]:
        """Two views of each slice, the first of all slices, then the second; and in the same way the small crops."""
        images = batch.images
        large = torch.cat(self.two_views(batch, generator))
        if not self.small_crops:
            return (large,)
        if self.own_views is not None:
            small = [published_view(images, SMALL_VIEW, generator=generator) for _ in range(self.small_crops)]
        else:
            small = [small_crop(images, self.affine, generator=generator) for _ in range(self.small_crops)]
        return large, torch.cat(small)

    def forward(self, views: tuple[Tensor, ...], batch: SliceBatch) -> dict[str, Tensor]:
        """The loss and the collapse monitor (see `Method`)."""
        pooled = torch.cat([self.backbone.encode(view)[-1].mean(dim=(2, 3)) for view in views])
        z = [unit(gather(rows)) for rows in self.projector(pooled).chunk(2 + self.small_crops)]
        prototypes = self.prototypes.detach() if host_scalar(self, "progress") < self.frozen_until else self.prototypes
        scores = [_scores(rows, prototypes) for rows in z]
        self.arrived = {"first": z[0].detach(), "second": z[1].detach()}
        codes = [self._codes("first", scores[0]), self._codes("second", scores[1])]
        return {"loss": swapped_prediction(scores, codes, self.temperature), **collapse_monitor(z[0], z[1])}

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Bring the prototypes back to unit length and queue the projections of the step, of all processes."""
        self.prototypes.copy_(unit(self.prototypes))
        if self.queue is not None and self.arrived:
            self.queue.push(**self.arrived)
        self.arrived = {}
        set_host_scalar(self, "progress", progress)

    @torch.no_grad()
    def _codes(self, name: str, scores: Float[Tensor, "m k"]) -> Float[Tensor, "m k"]:
        """Codes of a view, spread over the prototypes together with the queue where that is in use."""
        count = len(scores)
        if self.queue is not None and host_scalar(self, "progress") >= self.queue_from and self.queue.full():
            scores = torch.cat([scores, _scores(self.queue[name], self.prototypes)])
        return sinkhorn(scores, epsilon=self.epsilon)[:count]


def _scores(z: Float[Tensor, "m d"], prototypes: Float[Tensor, "k d"]) -> Float[Tensor, "m k"]:
    """Products of unit vectors in full precision: rounded to bfloat16, exp(score / 0.05) has one digit left."""
    with torch.autocast(z.device.type, enabled=False):
        return z @ prototypes.T


def sinkhorn(
    scores: Float[Tensor, "m k"], *, epsilon: float = 0.05, iterations: int = ITERATIONS
) -> Float[Tensor, "m k"]:
    """Codes near to exp(scores / epsilon) with all prototypes about as much used (paper, equations 3 to 5).

    Columns and then rows are scaled to equal sums, in turn; at the end each row sums to 1. In logarithms, where a
    subtraction takes the place of the division: exp(1 / 0.05) is beyond what half precision holds, and where there
    are more prototypes than rows a column may vanish in the plain form.

    Args:
        scores: cosine between rows and prototypes.
        epsilon: smaller makes the codes harder (paper: 0.05).
        iterations: how often (paper: 3).
    """
    logarithms = (scores if scores.dtype == torch.float64 else scores.float()) / epsilon
    for _ in range(iterations):
        logarithms = logarithms - logarithms.logsumexp(0, keepdim=True)
        logarithms = logarithms - logarithms.logsumexp(1, keepdim=True)
    return logarithms.exp()


def swapped_prediction(
    scores: Sequence[Float[Tensor, "m k"]], codes: Sequence[Float[Tensor, "m k"]], temperature: float
) -> Float[Tensor, ""]:
    """Cross-entropy between each view's code and the predictions of all the other views, the mean of all pairs.

    Paper, equations 2 and 6. The codes are those of the first views.
    """
    logarithms = [torch.log_softmax(rows / temperature, dim=1) for rows in scores]
    terms = [
        -(code * rows).sum(1).mean()
        for number, code in enumerate(codes)
        for other, rows in enumerate(logarithms)
        if other != number
    ]
    return torch.stack(terms).mean()


def small_crop(
    images: Float[Tensor, "b c h w"], ranges: AffineRanges, *, generator: Generator
) -> Float[Tensor, "b c y x"]:
    """A view of a random part of each image with 1 / `SMALL` of its side, at the image's own resolution."""
    matrices = random_affine(len(images), ranges, generator=generator, device=images.device)
    # from -1 to 1 over the image's side: how far the center of the part can be from that of the image
    reach = 1 - 1 / SMALL
    shift = send(torch.rand(len(images), 2, generator=generator, device=generator.device), images.device) * 2 - 1
    parts = torch.cat([matrices[:, :, :2] / SMALL, matrices[:, :, 2:] + reach * shift[:, :, None]], dim=2)
    return shrink(warp(images, parts), SMALL)
