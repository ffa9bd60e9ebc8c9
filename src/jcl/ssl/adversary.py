"""A discriminator of restored images, and what it and the network that restores learn from its judgement (DiRA)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

__all__ = ["FORMS", "Discriminator", "PublishedDiscriminator", "contest"]

FORMS = ("minimax", "bce", "least-squares")
"""Of the adversarial loss, see `contest`."""


class Discriminator(nn.Sequential):
    """Four 3x3 convolutions, the first three halving; each output judges a patch (paper, appendix).

    Normalised within each image, so that it does not matter which images are judged together.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(channels, width, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.GroupNorm(1, 2 * width),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
            nn.GroupNorm(1, 4 * width),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(4 * width, 1, 3, padding=1),
        )


class PublishedDiscriminator(nn.Sequential):
    """As DiRA's program has it: a convolution more, instance normalisation, first weights of N(0, 0.02).

    A map of a single pixel cannot be normalised, so that images of 16 pixels a side are needed.
    """

    def __init__(self, channels: int, width: int) -> None:
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        for before, after, stride in ((1, 2, 2), (2, 4, 2), (4, 8, 1)):
            layers += [
                nn.Conv2d(before * width, after * width, 3, stride=stride, padding=1),
                nn.InstanceNorm2d(after * width),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        super().__init__(*layers, nn.Conv2d(8 * width, 1, 3, padding=1))
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.02)


def contest(
    judge: nn.Module, real: Float[Tensor, "n c h w"], restored: Float[Tensor, "n c h w"], *, form: str, weight: float
) -> tuple[Float[Tensor, " n"], dict[str, Float[Tensor, " n"]]]:
    """What is added to the loss of each slice, and its parts for the log, as means over the judged patches.

    D's logits are d for the real image and e for the restored one.

    - `minimax` (paper): both play for L = - log D(real) - log(1 - D(restored)). D learns from L in full; what L sends
      back into the restored image is reversed and multiplied by `weight` (arXiv:1409.7495).
    - `bce`: D learns from L / 2, the network from - weight log D(restored), whose gradient does not vanish where D is
      right.
    - `least-squares` (authors' program): D learns from ((d - 1)^2 + e^2) / 2, the network from weight (e - 1)^2.

    In the last two neither learns from the other's part, as with two optimisers; both parts are computed with the same
    D, where the program updates D in between.
    """
    if form == "minimax":
        judged = judge(Reverse.apply(restored, weight)).float()
        loss = _mean(F.softplus(-judge(real).float())) + _mean(F.softplus(judged))
        return loss, {"adversarial": loss}
    real_logits, restored_logits = judge(real).float(), judge(restored.detach()).float()
    fixed = {name: parameter.detach() for name, parameter in judge.named_parameters()}
    deceiving = functional_call(judge, fixed, (restored,)).float()
    if form == "bce":
        learned = (_mean(F.softplus(-real_logits)) + _mean(F.softplus(restored_logits))) / 2
        deceived = _mean(F.softplus(-deceiving))
    else:
        learned = (_mean((real_logits - 1).square()) + _mean(restored_logits.square())) / 2
        deceived = _mean((deceiving - 1).square())
    return learned + weight * deceived, {"adversarial": deceived, "discriminator": learned}


class Reverse(torch.autograd.Function):
    """The input itself; its gradient is multiplied by - weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad_output * -ctx.weight, None


def _mean(patches: Float[Tensor, "n 1 h w"]) -> Float[Tensor, " n"]:
    return patches.mean((1, 2, 3))
