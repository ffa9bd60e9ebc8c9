"""The same volume twice: found by small pictures of each, so that no two volumes are ever held or read together.

A thumbnail is a volume averaged over 8 x 16 x 16 boxes, with mean 0 and norm 1. The dot product of two is their
correlation r, which is near 1 for the same image in another intensity scale, type or resolution.

All pairs are first compared by thumbnails averaged over the 8 ways to flip them, which have an eighth of the values.
Averaging moves no two points further apart, so |a - b|² = 2 (1 - r) bounds their distance: no pair is missed, turned
or not, and only those few below the bound are compared in full.
"""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from jaxtyping import Float32, Float64, Int64

__all__ = ["ALIKE", "THUMBNAIL", "Thumbnail", "area_weights", "connected", "similar_pairs"]

THUMBNAIL = (8, 16, 16)
"""Slices, rows and columns of a thumbnail: 8 KiB a case."""

ALIKE = 0.99
"""Correlation of thumbnails from which two volumes are probably one. On four real sets (289 volumes) no two patients
come above 0.89, while a volume saved again in 8 bits, with a gamma of 1.1 or at 0.7 times the in-plane resolution keeps
0.996 and more (tests/realdata/test_verify_realdata.py). One that was cropped by some per cent may fall below."""

BLOCK = 1024
"""Cases compared at a time with as many others: 4 MiB of distances."""

FLIPS = tuple(product((1, -1), repeat=3))


class Thumbnail:
    """A thumbnail that is made slice by slice."""

    def __init__(self, slices: int, shape: tuple[int, int]) -> None:
        self.depth, self.rows, self.columns = (
            area_weights(bins, size) for bins, size in zip(THUMBNAIL, (slices, *shape), strict=True)
        )
        self.sum = np.zeros(THUMBNAIL)

    def add(self, number: int, pixels: Float32[np.ndarray, "h w"]) -> None:
        """Add slice `number`."""
        self.sum += self.depth[:, number, None, None] * (self.rows @ pixels @ self.columns.T)

    def normalised(self) -> Float32[np.ndarray, "d h w"] | None:
        """The thumbnail with mean 0 and norm 1; None where there is nothing to see."""
        centred = self.sum - self.sum.mean()
        norm = float(np.linalg.norm(centred))
        return (centred / norm).astype(np.float32) if norm > 1e-6 * (1 + float(np.abs(self.sum).max())) else None


def area_weights(bins: int, size: int) -> Float64[np.ndarray, "{bins} {size}"]:
    """What share each of `size` pixels has in each of `bins` equal boxes over them; a row sums to 1."""
    edges = np.arange(bins + 1) * (size / bins)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return overlap.clip(min=0) * (bins / size)


def similar_pairs(
    thumbnails: Float32[np.ndarray, "n d h w"], patients: Sequence[str], *, least: float = ALIKE
) -> Iterator[tuple[int, int, float]]:
    """Numbers of two volumes of different patients, and their correlation, also where one of them is flipped.

    Args:
        thumbnails: as `Thumbnail` makes them.
        patients: whose each volume is.
        least: correlation from which a pair is given.
    """
    whose = np.unique(np.array(patients, dtype=object).astype(str), return_inverse=True)[1]
    even = _flip_average(thumbnails)
    squares = (even * even).sum(axis=1)
    limit = 2 * (1 - least) + 1e-5  # rounding
    for first in range(0, len(even), BLOCK):
        for second in range(first, len(even), BLOCK):
            a, b = slice(first, first + BLOCK), slice(second, second + BLOCK)
            distances = squares[a, None] + squares[None, b] - 2 * even[a] @ even[b].T
            near = (distances <= limit) & (whose[a, None] != whose[None, b])
            pairs = np.argwhere(near) + np.array((first, second))
            yield from _compare(thumbnails, pairs[pairs[:, 0] < pairs[:, 1]], least)


def connected(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Groups of numbers that pairs link, each in order."""
    group: dict[int, list[int]] = {}
    for a, b in pairs:
        one, other = group.setdefault(a, [a]), group.setdefault(b, [b])
        if one is not other:
            one += other
            group.update(dict.fromkeys(other, one))
    return sorted(sorted(members) for members in {id(members): members for members in group.values()}.values())


def _flip_average(thumbnails: Float32[np.ndarray, "n d h w"]) -> Float32[np.ndarray, "n k"]:
    """Mean over the flips; of its eight equal corners one, with the weight of all, so that distances stay."""
    mean = np.zeros_like(thumbnails)
    for z, y, x in FLIPS:
        mean += thumbnails[:, ::z, ::y, ::x] / np.float32(len(FLIPS))
    corner = tuple(slice(size // 2) for size in THUMBNAIL)
    return mean[:, *corner].reshape(len(mean), -1) * np.float32(len(FLIPS) ** 0.5)


def _compare(
    thumbnails: Float32[np.ndarray, "n d h w"], pairs: Int64[np.ndarray, "p 2"], least: float
) -> Iterator[tuple[int, int, float]]:
    """Those of the pairs whose correlation, in the best way to flip the second, is at least `least`."""
    for start in range(0, len(pairs), BLOCK):
        a, b = pairs[start : start + BLOCK].T
        one, other = thumbnails[a], thumbnails[b]
        found = np.max([(one * other[:, ::z, ::y, ::x]).sum(axis=(1, 2, 3)) for z, y, x in FLIPS], axis=0)
        for index in np.flatnonzero(found >= least):
            yield int(a[index]), int(b[index]), float(found[index])
