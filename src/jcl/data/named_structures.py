"""Structures that a file has by name, put together as the label values of a volume."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int32

from jcl.data.affine import Size
from jcl.data.folders import folded_words
from jcl.data.notes import note

__all__ = ["grouped_by_name", "label_structures"]

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
