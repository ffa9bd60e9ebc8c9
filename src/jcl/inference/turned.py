"""A second look at each slice: turned and scaled a little, segmented, and the scores brought back and averaged.

Of a volume that is seen in blocks all slices are turned alike, before blocks are cut of them, so that a block's corners
hold what lies there.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from jcl.augment.spatial import warp
from jcl.data.block_plan import Block
from jcl.inference.windows import window_scores

__all__ = ["Turned", "View", "views_of", "volume_scores"]

TURNS = (0.0, -10.0, 10.0)
"""Degrees."""

SCALES = (1.0, 0.9, 1.1)
"""Factors by which a slice is made larger."""

LEAST = 1e-30
"""Of a score, before its logarithm is taken: it is finite in float32."""

View = tuple[tuple[float, float], tuple[float, float]]
"""From a place in the view to that in the slice: a matrix, as `jcl.augment.spatial.warp` takes it without its shift."""


def views_of(*, tta: bool = False, mirror: bool = False) -> tuple[View, ...]:
    """The views of each slice, the slice itself first.

    Args:
        tta: turns by -10, 0 and 10 degrees, each at 0.9, 1 and 1.1 times its size.
        mirror: each view also with left and right exchanged.
    """
    turns = list(product(TURNS, SCALES)) if tta else [(0.0, 1.0)]
    sides = (1.0, -1.0) if mirror else (1.0,)
    views: list[View] = []
    for side, (degrees, scale) in product(sides, turns):
        cos, sin = (f(math.radians(degrees)) / scale for f in (math.cos, math.sin))
        views.append(((side * cos, -side * sin), (sin, cos)))
    return tuple(views)


class Turned(nn.Module):
    """A network that looks at several views of each slice; its logits are the logarithms of the mean scores.

    The mean of a pixel is over those views that hold it. So `softmax` of what it returns are the mean scores.

    Args:
        network: images (b, c, h, w) to logits (b, k, h, w).
        views: see `views_of`.
    """

    def __init__(self, network: nn.Module, views: Sequence[View]) -> None:
        super().__init__()
        self.network = network
        self.views = tuple(views)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Logarithms of the mean scores."""
        total, held = None, torch.zeros_like(images[:1, :1], dtype=torch.float32)
        for view in self.views:
            there, back = _matrices(view, images)
            turned = images if there is None else warp(images, there)
            scores = self.network(turned.contiguous(memory_format=torch.channels_last)).float().softmax(1)
            if back is not None:
                scores = warp(scores, back)
                held = held + warp(torch.ones_like(held), back[:1])
            else:
                held = held + 1
            total = scores if total is None else total + scores
        assert total is not None
        return (total / held).clamp_min(LEAST).log()


def volume_scores(
    network: nn.Module,
    volume: Float32[np.ndarray, "c d h w"],
    block: Block,
    *,
    batch_size: int,
    device: torch.device,
    precision: torch.dtype,
) -> Iterator[Float[Tensor, "k h w"]]:
    """Scores of each slice of a volume in turn, by a network that sees blocks or by its views (`Turned`).

    The arguments are those of `jcl.inference.windows.window_scores`. With views the volume is in memory once for each.

    Raises:
        NotFiniteError: what the network computes is not finite.
    """
    how: dict[str, Any] = {"block": block, "batch_size": batch_size, "device": device, "precision": precision}
    if isinstance(network, Turned):
        return _turned_scores(partial(window_scores, network.network, **how), volume, network.views)
    return window_scores(network, volume, **how)


def _turned_scores(
    scores_of: Callable[[Float32[np.ndarray, "c d h w"]], Iterator[Float[Tensor, "k h w"]]],
    volume: Float32[np.ndarray, "c d h w"],
    views: Sequence[View],
) -> Iterator[Float[Tensor, "k h w"]]:
    """Mean scores of each slice, over those views that hold a pixel; the views are gone through side by side."""
    slices = torch.from_numpy(volume).transpose(0, 1)
    matrices = [_matrices(view, slices) for view in views]
    turned = (volume if there is None else warp(slices, there).transpose(0, 1).numpy() for there, _ in matrices)
    backs = [None if back is None else back[:1] for _, back in matrices]
    for each in zip(*(scores_of(np.ascontiguousarray(one)) for one in turned), strict=True):
        total, held = torch.zeros_like(each[0]), torch.zeros_like(each[0][:1])
        for scores, back in zip(each, backs, strict=True):
            seen = torch.ones_like(held)
            total += scores if back is None else warp(scores[None], back.to(scores.device))[0]
            held += seen if back is None else warp(seen[None], back.to(scores.device))[0]
        yield total / held


def _matrices(view: View, images: Tensor) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """To a view and back, for each image; None for the slice as it is."""
    matrix = torch.tensor(view)
    if torch.equal(matrix, torch.eye(2)):
        return None, None
    both = [torch.cat([each, torch.zeros(2, 1)], dim=1) for each in (matrix, torch.linalg.inv(matrix))]
    there, back = (each.to(images.device).expand(len(images), 2, 3) for each in both)
    return there, back
