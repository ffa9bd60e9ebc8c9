"""Structures that a file has by name, put together as the label values of a volume."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int32

from jcl.data.affine import SAME, Affine, Size
from jcl.data.folders import folded_words
from jcl.data.notes import note
from jcl.errors import DataError

__all__ = ["Members", "grouped_by_name", "label_structures", "set_voxels"]

Members = tuple[int, ...]
"""Numbers in the file of what has one name."""


def grouped_by_name(pairs: Iterable[tuple[int, str]]) -> dict[str, Members]:
    """The numbers of each name, whatever its capitals and spaces, in its first spelling and the file's order."""
    found: dict[str, Members] = {}
    for number, name in pairs:
        same = next((each for each in found if folded_words(each) == folded_words(name)), name)
        found[same] = (*found.get(same, ()), number)
    return found


def label_structures(
    path: Path,
    names: Mapping[str, Members],
    mask_of: Callable[[Members], Bool[np.ndarray, "z y x"]],
    size: Size,
    values: Mapping[str, int],
) -> Int32[np.ndarray, "z y x"]:
    """The labels of a volume by the masks of its structures.

    Where two overlap, the voxels go to the smaller one, which a note says: a voxel has one label, and the larger is
    mostly drawn around the smaller. What is not in `values` is left out, which another says.

    Args:
        path: what notes name.
        names: of the structures, with their numbers in the file.
        mask_of: gives the voxels that some numbers take together.
        size: voxels of the volume along x, y, z.
        values: label value of each structure; letters' case and spaces at the ends of names do not matter.
    """
    wanted = {folded_words(name): value for name, value in values.items()}
    masks: dict[int, Bool[np.ndarray, "z y x"]] = {}
    for name, members in names.items():
        if (value := wanted.get(folded_words(name))) is not None:
            mask = mask_of(members)
            masks[value] = masks[value] | mask if value in masks else mask
    if unknown := [name for name in names if folded_words(name) not in wanted]:
        note(f"{path}: left out, since --labels does not name them: {', '.join(unknown)}")
    labels = np.zeros(size[::-1], np.int32)
    shared = 0
    for value, mask in sorted(masks.items(), key=lambda item: -int(np.count_nonzero(item[1]))):
        shared += int(np.count_nonzero(labels[mask]))
        labels[mask] = value
    if shared:
        note(f"{path}: structures overlap in {shared} voxels, which were given to the smaller one of each two")
    return labels


def set_voxels(
    path: Path, mask: Bool[np.ndarray, "z y x"], affine: Affine, part: Bool[np.ndarray, "k l m"], own: Affine
) -> None:
    """Set those voxels of a volume that lie where those of a part of it do.

    Args:
        path: of the part, for messages.
        mask: voxels of the volume, which are set.
        affine: from indices x, y, z of the volume to mm.
        part: voxels, of which those that are true are set.
        own: from indices x, y, z of the part to mm.

    Raises:
        DataError: they lie between the voxels of the volume, or outside of it.
    """
    indices = np.argwhere(part)[:, ::-1].T
    if not indices.size:
        return
    moving = np.linalg.solve(affine, own)
    ends = np.array([[0, 0, 0, 1], [*(n - 1 for n in part.shape[::-1]), 1]], float).T
    nearest = np.rint(moving)
    away = float(np.abs((moving - nearest) @ ends)[:3].max())
    if away > SAME or not (np.abs(nearest[:3, :3]).sum(axis=0) == 1).all():
        raise DataError(f"{path}: its voxels are not those of its image ({away:.2g} voxels away); resample it to them")
    x, y, z = (nearest[:3, :3] @ indices + nearest[:3, 3:]).astype(int)
    if min(x.min(), y.min(), z.min()) < 0 or any(
        at.max() >= n for at, n in zip((x, y, z), mask.shape[::-1], strict=True)
    ):
        raise DataError(f"{path}: lies outside of its image in part; are they of one scan?")
    mask[z, y, x] = True
