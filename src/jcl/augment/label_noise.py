"""Wrong and missing labels: as hasty annotators leave them, to see what a training makes of them."""

from dataclasses import replace
from functools import partial
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from jcl.data.batches import SliceBatch
from jcl.parallel.sending import send

__all__ = ["KINDS", "corrupt_labels"]

KINDS = ("boundary", "flip", "missing")
"""Of wrong labels: moved outlines, structures taken for another, structures forgotten."""

CHANGE = (0.1, 0.3)
"""By how much a wrong outline is moved: a share of the radius of the disc that is as large as the structure."""


def corrupt_labels(
    batch: SliceBatch, share: float, seed: int, *, kind: str = "boundary", classes: int = 1, ignore: int | None = None
) -> SliceBatch:
    """The batch with about `share` of its structures wrong; at 0 the batch itself.

    In each slice each structure by itself is wrong with probability `share`, in one of three ways. The journal version
    of JCL names them (its table X) and says no more of them, so that how much is moved or forgotten is our choice.

    - `boundary`: its outline is moved outwards or inwards, with equal chance, by 10 to 30 % of the radius of a disc of
      its area, one pixel at least. What it grows over is taken from background and neighbours, what it gives up becomes
      background, and a structure of a few pixels may vanish. Errors lie at outlines, and those of neighbouring pixels
      go together, as with people (Yao et al., ICLR 2023, arXiv 2308.02498).
    - `flip`: it has the label of another structure, each as likely; where there is only one, that of the background.
    - `missing`: it is background.

    A slice is disturbed in the same way whenever it comes, in any batch and process, and depends on `seed`, its case's
    number in the store and its position alone. What is wrong at one share is wrong likewise at every larger one.

    Args:
        batch: slices with labels.
        share: of the structures, from 0 to 1.
        seed: of the errors.
        kind: one of `KINDS`.
        classes: how many structures there are, for `flip`.
        ignore: label of voxels that stay as they are.
    """
    if share == 0:
        return batch
    redraw = {
        "boundary": partial(_moved, share=share, ignore=ignore),
        "flip": partial(_flipped, share=share, classes=classes, ignore=ignore),
        "missing": partial(_forgotten, share=share, ignore=ignore),
    }[kind]
    assert batch.labels is not None
    keys = zip(batch.volumes.tolist(), batch.positions.cpu().numpy().view(np.uint32).tolist(), strict=True)
    generators = [np.random.default_rng((seed, *key)) for key in keys]
    labels = batch.labels.cpu().numpy()
    drawn = [redraw(one, random) for one, random in zip(labels, generators, strict=True)]
    return replace(batch, labels=send(torch.from_numpy(np.stack(drawn)), batch.labels.device))


def _structures(labels: Int[np.ndarray, "h w"], ignore: int | None) -> list[int]:
    """The labels of a slice, in their order."""
    return np.unique(labels[(labels > 0) & (labels != ignore)]).tolist()


def _flipped(
    labels: Int[np.ndarray, "h w"], random: np.random.Generator, *, share: float, classes: int, ignore: int | None
) -> Int[np.ndarray, "h w"]:
    result = labels.copy()
    for structure in _structures(labels, ignore):
        others = [other for other in range(1, classes + 1) if other != structure] or [0]
        wrong, other = random.random() < share, others[int(random.integers(len(others)))]
        if wrong:
            result[labels == structure] = other
    return result


def _forgotten(
    labels: Int[np.ndarray, "h w"], random: np.random.Generator, *, share: float, ignore: int | None
) -> Int[np.ndarray, "h w"]:
    result = labels.copy()
    for structure in _structures(labels, ignore):
        if random.random() < share:
            result[labels == structure] = 0
    return result


def _moved(
    labels: Int[np.ndarray, "h w"], random: np.random.Generator, *, share: float, ignore: int | None
) -> Int[np.ndarray, "h w"]:
    result = labels.copy()
    ignored = labels == ignore
    for structure in _structures(labels, ignore):
        wrong, grows, change = random.random() < share, random.random() < 0.5, random.uniform(*CHANGE)
        inside = labels == structure
        if not wrong or inside.all():
            continue
        pixels = max(1.0, change * float(np.sqrt(inside.sum() / np.pi)))
        window = _around(inside, int(pixels) + 1)
        within, part = inside[window], result[window]
        if grows:
            part[_distances(~within) <= pixels] = structure
        else:
            part[within & (_distances(within) <= pixels) & (part == structure)] = 0
    result[ignored] = labels[ignored]
    return result


def _distances(inside: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Of each pixel inside, to the nearest one outside; 0 outside."""
    return cast("np.ndarray", ndimage.distance_transform_edt(inside))


def _around(inside: Bool[np.ndarray, "h w"], margin: int) -> tuple[slice, slice]:
    """The rows and columns of a structure and `margin` more on each side; distances are wanted only there."""
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    first, second = (slice(max(0, int(found[0]) - margin), int(found[-1]) + 1 + margin) for found in (rows, columns))
    return first, second
