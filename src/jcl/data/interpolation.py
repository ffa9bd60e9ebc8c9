"""Linear interpolation of slices without aliasing: a triangle as wide as the coarser of the two grids.

Written with NumPy, so that preparing needs no PyTorch, and so that the result is the same to the last bit on
every machine: products and sums are rounded one by one, in a fixed order.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, UInt8

__all__ = ["Taps", "interpolate", "interpolate_classes", "make_taps", "resample_rows"]

CHUNK_BYTES = 1 << 18
"""Slices are taken together up to so many bytes, which a core's cache holds with what is computed from them."""


@dataclass(frozen=True)
class Taps:
    """How one axis is resampled: value i is the sum over t of `weights[t, i]` times source value `places[t, i]`."""

    places: Int64[np.ndarray, "t n"]
    weights: Float32[np.ndarray, "t n"]

    def of_part(self, first: int, last: int) -> tuple[slice, slice, "Taps"]:
        """What is needed where only the source's values `first` to `last` are not 0.

        Returns:
            The new values that these have a share in, the source's values that make these, and the taps from one to the
            other.
        """
        near = (self.places >= first) & (self.places <= last) & (self.weights > 0)
        new = _span(np.flatnonzero(near.any(0)))
        places, weights = self.places[:, new], self.weights[:, new]
        old = _span(places)
        return new, old, Taps(places - old.start, weights)


def _span(at: Int64[np.ndarray, "..."]) -> slice:
    return slice(int(at.min()), int(at.max()) + 1)


def make_taps(old: int, new: int) -> Taps:
    """Weights that bring `old` values to `new` over the same length; those of each new value have the sum 1.

    The triangle is that of Pillow and of PyTorch's `interpolate` with `antialias=True`.
    """
    scale = old / new
    reach = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale
    first = np.maximum(np.floor(centres - reach + 0.5), 0).astype(np.int64)
    end = np.minimum(np.floor(centres + reach + 0.5), old).astype(np.int64)
    places = first + np.arange(int((end - first).max()))[:, None]
    weights = np.where(places < end, np.maximum(1 - np.abs(places + 0.5 - centres) / reach, 0), 0)
    weights /= weights.sum(0)
    used = weights.any(1)
    return Taps(np.minimum(places, old - 1)[used], weights[used].astype(np.float32))


def interpolate(
    slices: Float32[np.ndarray, "d h w"], taps: tuple[Taps, Taps], out: Float32[np.ndarray, "d H W"]
) -> None:
    """Resample rows by the first taps and columns by the second, into `out`."""
    step = max(1, CHUNK_BYTES // max(1, slices[0].nbytes))
    for start in range(0, len(slices), step):
        part = slices[start : start + step]
        turned = np.ascontiguousarray(np.swapaxes(resample_rows(part, taps[0]), 1, 2))
        out[start : start + step] = np.swapaxes(resample_rows(turned, taps[1]), 1, 2)


def interpolate_classes(
    labels: UInt8[np.ndarray, "h w"], taps: tuple[Taps, Taps], out: UInt8[np.ndarray, "H W"]
) -> None:
    """Resample one slice of labels into zeros; each class only where it can reach. The largest share wins."""
    best = np.zeros(out.shape, np.float32)
    total = np.zeros(out.shape, np.float32)
    for value in np.unique(labels[labels > 0]).tolist():
        mask = labels == value
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        parts = taps[0].of_part(int(rows[0]), int(rows[-1])), taps[1].of_part(int(columns[0]), int(columns[-1]))
        there, source = (parts[0][0], parts[1][0]), (parts[0][1], parts[1][1])
        share = np.empty(best[there].shape, np.float32)
        interpolate(mask[None, *source].astype(np.float32), (parts[0][2], parts[1][2]), share[None])
        won = share > best[there]
        np.copyto(best[there], share, where=won)
        np.copyto(out[there], np.uint8(value), where=won)
        total[there] += share
    np.copyto(out, np.uint8(0), where=best <= 1 - total)


def resample_rows(slices: Float32[np.ndarray, "d h w"], taps: Taps) -> Float32[np.ndarray, "d H w"]:
    """Resample the rows of slices."""
    total: Float32[np.ndarray, "d H w"] | None = None
    for places, weights in zip(taps.places, taps.weights, strict=True):
        part = slices.take(places, axis=1)
        part *= weights[:, None]
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None
    return total
