"""A network in a form that tracers follow for every image size, and the check of what came of it."""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from jcl.errors import DataError

__all__ = ["AnySize", "check_same", "fixed_size", "sizes_to_check"]

TOLERANCE = 1e-4
"""Largest difference of logits, as a share of the largest logit (or of 1): float32 sums in another order."""


class AnySize(nn.Module):
    """Pads the image to a multiple of the stride and crops the logits, by arithmetic alone.

    The networks do so themselves, but ask whether there is anything to pad: a tracer would keep the answer for the
    image that it saw. With an image that fits, that question has one answer for all sizes.
    """

    def __init__(self, network: nn.Module, stride: int) -> None:
        super().__init__()
        self.network = network
        self.stride = stride

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Logits at the size of the image."""
        height, width = image.shape[2], image.shape[3]
        rows = (height + self.stride - 1) // self.stride * self.stride
        columns = (width + self.stride - 1) // self.stride * self.stride
        padded = F.pad(image, (0, columns - width, 0, rows - height))
        return self.network(padded)[:, :, :height, :width]


def fixed_size(padded: tuple[int, int], stride: int) -> tuple[int, int]:
    """Height and width of the prepared slices, up to the next multiple of the stride."""
    height, width = (-(-side // stride) * stride for side in padded)
    return height, width


def sizes_to_check(padded: tuple[int, int], stride: int) -> list[tuple[int, int, int]]:
    """Batches (b, h, w) of several sizes: that of the prepared slices, odd ones, one more than the stride."""
    return [(1, *padded), (3, 2 * stride + 5, 3 * stride - 1), (2, stride + 1, 4 * stride)]


def check_same(
    network: nn.Module,
    exported: Callable[[Float[Tensor, "b c *space"]], Float[Tensor, "b k *space"]],
    batches: Sequence[tuple[int, ...]],
    *,
    channels: int,
    what: str,
) -> float:
    """Compare what was exported with the network on random images; returns the largest difference of logits.

    Args:
        exported: images to logits.
        batches: (b, h, w) of each, or (b, d, h, w).
        what: that the message names.

    Raises:
        DataError: they differ by more than `TOLERANCE`.
    """
    worst = 0.0
    for images in _images(batches, channels):
        with torch.no_grad():
            wanted = network(images)
        got = exported(images)
        difference = (got - wanted).abs().max().item() if got.shape == wanted.shape else float("inf")
        if not difference <= TOLERANCE * max(1.0, wanted.abs().max().item()):  # NaN too
            sides = " x ".join(str(side) for side in images.shape[2:])
            raise DataError(
                f"{what}: answers an image of {sides} otherwise than PyTorch (by"
                f" {difference:.2g}), so it is not written; please report it with the backbone and the versions"
            )
        worst = max(worst, difference)
    return worst


def _images(batches: Sequence[tuple[int, ...]], channels: int) -> Iterator[Float[Tensor, "b c *space"]]:
    generator = Generator().manual_seed(0)
    for count, *sides in batches:
        yield torch.rand(count, channels, *sides, generator=generator)
