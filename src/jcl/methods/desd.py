"""DeSD: deep self-distillation (Ye et al., MICCAI 2022, doi:10.1007/978-3-031-16440-8_52)."""

from typing import Unpack, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jcl.arguments import check_choice
from jcl.backbones import Backbone
from jcl.data.batches import SliceBatch
from jcl.distributed.comm import gather
from jcl.errors import UsageError
from jcl.losses.similarity import unit
from jcl.methods._base import Method, ViewRanges
from jcl.ssl.collapse import collapse_monitor
from jcl.ssl.host_buffer import host_scalar, register_host_scalar, set_host_scalar
from jcl.ssl.momentum import cosine_momentum, make_teacher, update_ema

__all__ = ["DeSD"]


class DeSD(Method):
    """Every level of the student learns to predict what the teacher's deepest level says (paper, section 2).

    Two views v, w of each slice. Level s of the student's encoder has a head of its own, whose logits are f_s; the
    teacher, a moving average of encoder and deepest head, gives g. With the centre c,

        L = 1/S sum_s  mean over (v, w), (w, v) and slices of  - softmax((g(w) - c) / t_T) . log softmax(f_s(v) / t_S)

    Centring and sharpening are DINO's (arXiv:2104.14294), and so are the heads: pooling, three linear layers with
    batch normalisation and GELU, a row of length 1, and a layer whose weights have length 1.

    Defaults are those of the paper's program, at its rates of SGD, but for how these end and for what decays, which are
    settings. Adapted: the paper's encoder is a 3-D ResNet-50 of four levels, here it is the `stages` deepest levels of
    a 2-D encoder; 60,000 prototypes for 125,000 sub-volumes are 4,096 for some thousand slices; the two views are those
    of all methods here, without crops. The student goes on to fine-tuning, as with all methods here (the authors take
    the teacher).
    """

    learning_rate = 0.02 / 3
    """By the sweep of rates in docs/methods.md; the authors' 0.3 n / 256 is 0.019 for 16 slices."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        stages: int = 4,
        prototypes: int = 4096,
        hidden: int = 2048,
        bottleneck: int = 256,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.07,
        first_teacher_temperature: float = 0.04,
        temperature_warmup: float = 0.067,
        momentum: float = 0.996,
        centre_momentum: float = 0.9,
        fixed_prototypes: float = 0.0033,
        final_rate: float = 0.0,
        decay: str = "all",
        clip: float = 0.0,
        **ranges: Unpack[ViewRanges],
    ) -> None:
        """Set up the heads around `backbone`, and the teacher.

        Args:
            stages: deepest levels of the encoder that are supervised (paper: 4; 1 is DINO).
            prototypes: outputs of a head (paper: 60,000).
            hidden: hidden channels of a head (paper: 2048).
            bottleneck: channels before the prototypes (paper: 256).
            student_temperature: t_S (paper: 0.1).
            teacher_temperature: t_T after its warm-up (paper: 0.07).
            first_teacher_temperature: t_T at the start (paper: 0.04).
            temperature_warmup: share of the run in which t_T rises linearly (paper: 20 of 300 epochs).
            momentum: the teacher's at the start; it rises to 1 (paper: 0.996).
            centre_momentum: momentum of the centre (paper: 0.9).
            fixed_prototypes: share of the run in which the last layers do not learn (paper: 1 of 300 epochs).
            final_rate: learning rate at the end, as a share of the peak (authors' program: 0.048 of 0.225, 0.2133).
            decay: weight decay holds for `all` that is trained, or not for biases and normalisations (`weights`,
                authors' program).
            clip: largest norm of the gradient of each parameter; 0 is any (authors' program: 0 as they run it, 3
                unless they say so).

        Raises:
            UsageError: the backbone has not so many levels, or `decay` has a value that is not offered.
        """
        super().__init__(backbone, **ranges)
        if not 1 <= stages <= len(backbone.feature_channels):
            raise UsageError(f"stages is {stages}; this backbone has 1 to {len(backbone.feature_channels)}")
        self.student_temperature, self.teacher_temperature = student_temperature, teacher_temperature
        self.first_teacher_temperature, self.temperature_warmup = first_teacher_temperature, temperature_warmup
        self.momentum, self.centre_momentum = momentum, centre_momentum
        check_choice("decay", decay, "all", "weights")
        self.fixed_prototypes = fixed_prototypes
        self.final_rate, self.decays_all, self.clip = final_rate, decay == "all", clip
        self.heads = nn.ModuleList(
            Head(channels, hidden, bottleneck, prototypes) for channels in backbone.feature_channels[-stages:]
        )
        self.teacher = make_teacher(backbone)
        self.teacher_head = make_teacher(self.heads[-1])
        self.register_buffer("centre", torch.zeros(prototypes))
        register_host_scalar(self, "progress", 0.0)
        self._batch_centre: Tensor | None = None

    def forward(self, views: tuple[Tensor, ...], batch: SliceBatch) -> dict[str, Tensor]:
        """The loss, that of each level (`stage_1` is the shallowest), and the collapse monitor (see `Method`)."""
        progress = host_scalar(self, "progress")
        target = self._teach(views[0], progress)
        features = self.backbone.encode(views[0])[-len(self.heads) :]
        losses: dict[str, Tensor] = {}
        embedding = views[0]
        for number, (head, level) in enumerate(zip(self.heads, features, strict=True), start=1):
            embedding, logits = head(level, fixed=progress < self.fixed_prototypes)
            rows = distil(logits, target, temperature=self.student_temperature)
            losses[f"stage_{number}"] = gather(rows).mean()
        first, second = (gather(block) for block in embedding.chunk(2))
        return {"loss": torch.stack(list(losses.values())).mean(), **losses, **collapse_monitor(first, second)}

    def after_step(self, progress: float) -> None:
        """The teacher follows the student, and the centre the teacher's outputs of the last batch."""
        momentum = cosine_momentum(progress, self.momentum)
        update_ema(self.teacher, self.backbone, momentum)
        update_ema(self.teacher_head, self.heads[-1], momentum)
        if self._batch_centre is not None:
            cast("Tensor", self.centre).lerp_(self._batch_centre, 1 - self.centre_momentum)
            self._batch_centre = None
        set_host_scalar(self, "progress", progress)

    @torch.no_grad()
    def _teach(self, views: Tensor, progress: float) -> Float[Tensor, "two_n k"]:
        """The teacher's distribution for each view, centred and sharpened."""
        _, logits = self.teacher_head(self.teacher.encode(views)[-1])
        self._batch_centre = gather(logits).mean(0)
        warm = min(1.0, progress / self.temperature_warmup) if self.temperature_warmup else 1.0
        first = self.first_teacher_temperature
        temperature = first + (self.teacher_temperature - first) * warm
        return torch.softmax((logits - cast("Tensor", self.centre)) / temperature, dim=1)


class Head(nn.Module):
    """DINO's projection head, with batch normalisation: pooled features -> row of length 1 -> logits in float32."""

    def __init__(self, in_channels: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(in_channels, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        for module in self.layers:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
        # their length sets how fast they turn; this is that of a linear layer
        bound = bottleneck**-0.5
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck).uniform_(-bound, bound))

    def forward(
        self, features: Float[Tensor, "n c h w"], *, fixed: bool = False
    ) -> tuple[Float[Tensor, "n b"], Float[Tensor, "n k"]]:
        """Embedding and logits; `fixed` prototypes get no gradient."""
        embedding = unit(self.layers(features))
        prototypes = self.prototypes.detach() if fixed else self.prototypes
        with torch.autocast(embedding.device.type, enabled=False):
            return embedding, embedding @ unit(prototypes).T


def distil(
    logits: Float[Tensor, "two_n k"], target: Float[Tensor, "two_n k"], *, temperature: float
) -> Float[Tensor, " two_n"]:
    """Cross-entropy of the student's view of each slice with the teacher's distribution for the other view."""
    other = torch.cat(target.chunk(2)[::-1])
    return -(other * F.log_softmax(logits / temperature, dim=1)).sum(1)
