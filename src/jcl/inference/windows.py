"""A window that slides over a volume: scores of a network that sees blocks, slice after slice.

Windows overlap by half, those at the end of a side more, so that none reaches beyond the volume. Where several see a
voxel the mean of their scores counts, weighted with a Gaussian: a network knows more of what is around a block's middle
(Isensee et al., nnU-Net, 2021).
"""

from collections.abc import Iterator
from itertools import groupby, product

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from jcl.data.block_plan import Block
from jcl.distributed.device import autocast, channels_last
from jcl.inference.finite import check_finite

__all__ = ["OVERLAP", "SIGMA", "gaussian_weights", "window_scores", "window_starts"]

OVERLAP = 0.5
"""Of two neighbouring windows."""

SIGMA = 0.125
"""Standard deviation of the weights as a share of each side."""

LEAST = 1e-3
"""Of a weight, so that a voxel in a window's corner is not divided by nothing."""

VOXELS = 1 << 18
"""Of the windows that a processor's network takes at a time, as many as `predictor.PIXELS`; a GPU takes more."""

VOXELS_GPU = 1 << 22


def window_starts(extent: int, side: int) -> list[int]:
    """Where windows begin along a side: every half window, the last at the end.

    Example:
        >>> window_starts(10, 4), window_starts(11, 4), window_starts(3, 4)
        ([0, 2, 4, 6], [0, 2, 4, 6, 7], [0])
    """
    step = max(1, int(side * (1 - OVERLAP)))
    last = max(0, extent - side)
    return [*range(0, last, step), last]


def gaussian_weights(block: Block) -> Float[Tensor, "d h w"]:
    """Weight of each voxel of a window."""
    sides: list[Tensor] = []
    for side in block:
        apart = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
        sides.append(torch.exp(-apart.square() / (2 * (SIGMA * side) ** 2)))
    return torch.einsum("d,h,w->dhw", *sides).clamp_min(LEAST)


def window_scores(
    network: nn.Module,
    volume: Float32[np.ndarray, "c d h w"],
    block: Block,
    *,
    batch_size: int,
    device: torch.device,
    precision: torch.dtype,
) -> Iterator[Float[Tensor, "k h w"]]:
    """Scores of each slice of a volume in turn, as soon as no window that is still to come can touch it.

    Of the volume's scores as many slices as a block has are in memory.

    Args:
        network: a backbone of three dimensions in evaluation mode, on `device`.
        volume: of any size; one smaller than a block is seen in the middle of zeros, as in training.
        block: slices, rows and columns of a window.
        batch_size: windows at a time, at most; bounds the memory. Large windows are taken fewer at a time.
        device: where the network is.
        precision: bfloat16 or float32.

    Raises:
        NotFiniteError: what the network computes is not finite.
    """
    padded, inside = _padded(volume, block)
    starts = [window_starts(n, b) for n, b in zip(padded.shape[1:], block, strict=True)]
    fit = (VOXELS if device.type == "cpu" else VOXELS_GPU) // int(np.prod(block))
    weights = gaussian_weights(block).to(device)
    slab = _Slab(block[0], (padded.shape[2], padded.shape[3]))
    places = [list(group) for _, group in groupby(product(*starts), key=lambda start: start[0])]
    for number, row in enumerate(places):
        for some in _parts(row, max(1, min(batch_size, fit))):
            windows = np.stack([padded[:, z : z + block[0], y : y + block[1], x : x + block[2]] for z, y, x in some])
            images = torch.from_numpy(windows).to(device)
            with torch.inference_mode(), autocast(device, precision):
                logits = network(images.contiguous(memory_format=channels_last(3)))
            check_finite(logits)
            for start, scores in zip(some, logits.float().softmax(1), strict=True):
                slab.add(scores, weights, start)
        after = places[number + 1][0][0] if number + 1 < len(places) else padded.shape[1]
        for z, scores in slab.take(row[0][0], after):
            if inside[0].start <= z < inside[0].stop:
                yield scores[:, *inside[1:]]


class _Slab:
    """Sums of scores and of weights of the slices that windows can touch; slice z is kept at z modulo their number."""

    def __init__(self, slices: int, shape: tuple[int, int]) -> None:
        self.slices, self.shape = slices, shape
        self.sums: Tensor | None = None
        self.weights = torch.zeros(0)

    def add(
        self, scores: Float[Tensor, "k d h w"], weights: Float[Tensor, "d h w"], start: tuple[int, int, int]
    ) -> None:
        """Add the scores of a window that begins there."""
        if self.sums is None:
            self.sums = scores.new_zeros(self.slices, len(scores), *self.shape)
            self.weights = weights.new_zeros(self.slices, *self.shape)
        z, y, x = start
        rows, columns = slice(y, y + scores.shape[2]), slice(x, x + scores.shape[3])
        for offset in range(scores.shape[1]):
            at = (z + offset) % self.slices
            self.sums[at, :, rows, columns] += scores[:, offset] * weights[offset]
            self.weights[at, rows, columns] += weights[offset]

    def take(self, first: int, after: int) -> Iterator[tuple[int, Float[Tensor, "k h w"]]]:
        """Number and mean scores of these slices, which are forgotten."""
        assert self.sums is not None
        for z in range(first, after):
            at = z % self.slices
            yield z, self.sums[at] / self.weights[at]
            self.sums[at] = 0
            self.weights[at] = 0


def _padded(
    volume: Float32[np.ndarray, "c d h w"], block: Block
) -> tuple[Float32[np.ndarray, "c D H W"], tuple[slice, slice, slice]]:
    """The volume at least as large as a block, and which part of it that is."""
    lacking = [max(0, b - n) for n, b in zip(volume.shape[1:], block, strict=True)]
    before = [less // 2 for less in lacking]
    around = [(0, 0), *((b, less - b) for b, less in zip(before, lacking, strict=True))]
    parts = [slice(b, b + n) for b, n in zip(before, volume.shape[1:], strict=True)]
    return np.pad(volume, around) if any(lacking) else volume, (parts[0], parts[1], parts[2])


def _parts(items: list[tuple[int, ...]], size: int) -> Iterator[list[tuple[int, int, int]]]:
    for start in range(0, len(items), size):
        yield [(z, y, x) for z, y, x in items[start : start + size]]
