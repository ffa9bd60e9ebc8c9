"""Grids: volumes, scaled, are resampled in their plane, and if asked through it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from jcl.data.block_plan import block_of
from jcl.data.context import context_of, span_of, stack_neighbours
from jcl.data.imagefile.budget import scan_memory
from jcl.data.intensities import scale_as
from jcl.data.interpolation import interpolate, interpolate_classes, make_taps
from jcl.data.through_plane import resample_through, slices_through, through_of
from jcl.data.volumes import Volume
from jcl.errors import DataError
from jcl.parallel.machine import size

__all__ = ["check_room", "fit_of", "prepare_parts", "prepare_volume", "resample_image", "resample_label"]


def resample_image(
    array: Float32[np.ndarray, "c d h w"],
    spacing: tuple[float, float, float],
    target: float | None,
    fit: int | None = None,
    *,
    limits: Sequence[tuple[float, float]] | None = None,
) -> tuple[Float32[np.ndarray, "c d H W"], tuple[float, float, float]]:
    """Resample each slice in its plane, linearly and without aliasing; also returns the spacing reached.

    No value leaves the range of its channel. Without a target, or with one that changes nothing, the
    array is returned as it is.

    Args:
        target: in-plane spacing in mm; None keeps what there is.
        fit: instead of `target`, the pixels that the longer side is brought to.
        limits: of each channel, where the array is only a part of a volume.
    """
    shape, reached = _plan(array.shape[-2:], spacing, target, fit)
    if shape == array.shape[-2:]:
        return array, reached
    out = np.empty((*array.shape[:2], *shape), np.float32)
    taps = make_taps(array.shape[-2], shape[0]), make_taps(array.shape[-1], shape[1])
    for channel, source, ends in zip(out, array, limits or _limits(array), strict=True):
        interpolate(source, taps, channel)
        np.clip(channel, *ends, out=channel)
    return out, reached


def check_room(volume: Volume, preparation: Mapping[str, Any], slices: int | None) -> None:
    """See that so many slices of a volume at a time (None: all) can be resampled in the memory that one scan may take.

    Raises:
        DataError: they cannot.
    """
    rows, columns = _plan(volume.array.shape[2:], volume.spacing, preparation["spacing"], fit_of(preparation))[0]
    whole = slices_through(volume.array.shape[1], volume.spacing[0], through_of(preparation))
    count = whole if slices is None else min(slices, whole)
    channels = span_of(context_of(preparation)) * volume.array.shape[0]
    needed, allowed = 4 * channels * count * rows * columns, scan_memory()
    if whole != volume.array.shape[1]:  # which are all there before they are resampled in their plane
        count, needed = whole, max(needed, 4 * whole * volume.array[:, 0].size)
    if allowed is not None and needed > allowed:
        raise DataError(
            f"{count} of its slices, resampled to {rows} x {columns} pixels, need {size(needed)} of memory, more than "
            f"the {size(allowed)} that one scan may take; see its spacing, and that which is asked for"
        )


def _limits(array: Float32[np.ndarray, "c d h w"]) -> list[tuple[float, float]]:
    return [(float(channel.min()), float(channel.max())) for channel in array]


def resample_label(
    labels: UInt8[np.ndarray, "d h w"],
    spacing: tuple[float, float, float],
    target: float | None,
    fit: int | None = None,
) -> UInt8[np.ndarray, "d H W"]:
    """Resample labels in plane: each class by itself as an image, then the largest share wins.

    The background's share is what the others leave; where two are equal, the lower class wins. What is ignored is in
    this a class like others, the highest, and never mixed with one.
    """
    shape, _ = _plan(labels.shape[-2:], spacing, target, fit)
    if shape == labels.shape[-2:]:
        return labels
    taps = make_taps(labels.shape[-2], shape[0]), make_taps(labels.shape[-1], shape[1])
    out = np.zeros((len(labels), *shape), np.uint8)
    for pixels, resampled in zip(labels, out, strict=True):
        if pixels.any():
            interpolate_classes(pixels, taps, resampled)
    return out


def _plan(
    shape: tuple[int, ...], spacing: tuple[float, float, float], target: float | None, fit: int | None
) -> tuple[tuple[int, int], tuple[float, float, float]]:
    """Rows and columns after resampling, and the spacing that these make."""
    rows, columns = shape
    if fit is not None:
        factors = (fit / max(shape), fit / max(shape))
    elif target is not None:
        factors = (spacing[1] / target, spacing[2] / target)
    else:
        return (rows, columns), spacing
    new = (max(1, round(rows * factors[0])), max(1, round(columns * factors[1])))
    return new, (spacing[0], rows * spacing[1] / new[0], columns * spacing[2] / new[1])


def prepare_volume(
    volume: Volume, preparation: Mapping[str, Any]
) -> tuple[Float32[np.ndarray, "c d H W"], tuple[float, float, float]]:
    """A volume as the slices of a store with this preparation are: scaled and resampled, not yet padded.

    Also returns the spacing reached (through-plane, row, column; mm).
    """
    scaled = scale_as(volume.array, preparation)
    scaled, spacing = resample_through(scaled, volume.spacing, through_of(preparation))
    return resample_image(scaled, spacing, preparation["spacing"], fit_of(preparation))


def prepare_parts(
    volume: Volume, preparation: Mapping[str, Any], slices: int
) -> Iterator[Float32[np.ndarray, "k s H W"]]:
    """The slices that `prepare_volume` gives, some at a time, so that the volume is in memory but once.

    For a network that sees blocks all come together. Each comes with the neighbours that the preparation asks for as
    channels (see `jcl.data.context`). The volume's own array is overwritten.

    Raises:
        DataError: see `check_room`.
    """
    together = None if block_of(preparation) else slices
    check_room(volume, preparation, together)
    scaled = scale_as(volume.array, preparation, in_place=True)
    scaled, spacing = resample_through(scaled, volume.spacing, through_of(preparation))
    limits = _limits(scaled)
    context, count = context_of(preparation), scaled.shape[1]
    slices = together or count
    for start in range(0, count, slices):
        chosen = range(start, min(start + slices, count))
        first = max(0, start - context)
        part = scaled[:, first : chosen.stop + context]
        resampled, _ = resample_image(part, spacing, preparation["spacing"], fit_of(preparation), limits=limits)
        yield stack_neighbours(resampled, first, chosen, count, context) if context else resampled


def fit_of(preparation: Mapping[str, Any]) -> int | None:
    """The longer side of every slice, in a preparation that asks for slices of one size."""
    return preparation["size"] if preparation.get("fit") else None
