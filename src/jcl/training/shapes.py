"""Which structures are one piece and have no holes, by the labels that a run is trained on.

A piece is joined by faces, edges and corners (26 neighbours); a hole is background joined by faces that touches no
border of the volume and nothing but one structure.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
from jaxtyping import Integer
from scipy import ndimage

from jcl.data.manifest import IGNORE
from jcl.data.store import Store

__all__ = ["SHAPES", "holes", "pieces", "shapes_of"]

SHAPES = ("one_piece", "without_holes")
"""Keys of `run.json`, each with names of structures."""

SPECK = 0.01
"""Pieces that together are less of a structure are slips of the pen."""


def shapes_of(store: Store, patients: Collection[str]) -> dict[str, list[str]]:
    """The structures that are one piece in each labelled case of these patients, and those without a hole in any.

    Cases with voxels that nobody has decided on do not count, nor for a structure those that lack it. A structure
    that no case decides on is in neither list.
    """
    whole = dict.fromkeys(range(1, len(store.class_names) + 1), True)
    full, seen = dict(whole), set[int]()
    for number, record in enumerate(store.cases):
        if not record.labelled or record.patient not in patients:
            continue
        labels = np.stack([store.label(number, each)[store.content(number)] for each in range(record.slices)])
        if store.ignores and (labels == IGNORE).any():
            continue
        there = [value for value, voxels in enumerate(record.voxels, start=1) if voxels]
        seen.update(there)
        for value in (value for value in there if whole[value]):
            sizes = pieces(labels, value)[1]
            whole[value] = sizes.sum() - sizes.max() < SPECK * sizes.sum()
        if any(full[value] for value in there):
            for value in set(holes(labels)[1].tolist()) - {0}:
                full[value] = False
    names = {value: store.class_names[value - 1] for value in sorted(seen)}
    found = ([name for value, name in names.items() if kept[value]] for kept in (whole, full))
    return dict(zip(SHAPES, found, strict=True))


def pieces(
    labels: Integer[np.ndarray, "d h w"], value: int
) -> tuple[Integer[np.ndarray, "a b c"], Integer[np.ndarray, " n"], tuple[slice, ...]]:
    """The pieces of a structure, numbered from 1 within the box that holds it; their sizes; and the box.

    Without a voxel of the structure there is no piece, and the box is empty.
    """
    used = [np.flatnonzero((labels == value).any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    box = tuple(slice(int(each[0]), int(each[-1]) + 1) if len(each) else slice(0, 0) for each in used)
    found: Any = ndimage.label(labels[box] == value, np.ones((3, 3, 3)))
    numbered = found[0]
    return numbered, np.bincount(numbered.reshape(-1))[1:], box


def holes(labels: Integer[np.ndarray, "d h w"]) -> tuple[Integer[np.ndarray, "d h w"], Integer[np.ndarray, " n"]]:
    """The parts of the background, numbered from 1; and for each number the structure whose hole it is, or 0.

    Number 0 stands for the structures themselves, and is no hole.
    """
    found: Any = ndimage.label(labels == 0)
    numbered, count = found
    lowest = np.full(count + 1, np.iinfo(np.int64).max)
    highest = np.zeros(count + 1, np.int64)
    closed = np.ones(count + 1, bool)
    closed[0] = False
    for axis in range(3):
        ours, theirs = (np.moveaxis(each, axis, 0) for each in (numbered, labels))
        for back, front in ((slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))):
            touching = (ours[back] > 0) & (theirs[front] > 0)
            parts, values = ours[back][touching], theirs[front][touching].astype(np.int64)
            np.minimum.at(lowest, parts, values)
            np.maximum.at(highest, parts, values)
        for end in (0, -1):  # what reaches the border is open
            closed[np.unique(ours[end])] = False
    return numbered, np.where(closed & (lowest == highest), highest, 0)
