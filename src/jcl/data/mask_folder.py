"""A folder of masks, one a structure, which is named as its file, as TotalSegmentator writes them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int32

from jcl.data.affine import Affine, Size
from jcl.data.folders import folded_words
from jcl.data.grids import read_grid
from jcl.data.label_values import whole_values
from jcl.data.named_structures import Members, grouped_by_name, label_structures, set_voxels
from jcl.data.sources import Structures, stem
from jcl.errors import DataError

__all__ = ["read_structures", "structure_names"]


def structure_names(masks: Structures) -> tuple[str, ...]:
    """Names of the structures that have a voxel, each once; of a hundred masks most are empty.

    Raises:
        DataError: a file cannot be read, or has several values.
    """
    drawn = [(number, stem(path)) for number, path in enumerate(masks.masks) if _mask(path)[0].any()]
    return tuple(grouped_by_name(drawn))


def read_structures(
    masks: Structures, affine: Affine, size: Size, values: Mapping[str, int]
) -> Int32[np.ndarray, "z y x"]:
    """The masks on the voxels of the volume that they are of, in its own order of axes.

    Args:
        masks: the files.
        affine: from indices x, y, z of the volume to mm (LPS).
        size: voxels of the volume along x, y, z.
        values: see `jcl.data.named_structures.label_structures`; of files that it does not name nothing is said, since
            a folder may have a hundred.

    Raises:
        DataError: a file cannot be read, has several values, or its voxels are not those of the volume.
    """

    def mask_of(members: Members) -> Bool[np.ndarray, "z y x"]:
        found = np.zeros(size[::-1], np.bool_)
        for number in members:
            path = masks.masks[number]
            set_voxels(path, found, affine, *_mask(path))
        return found

    wanted = {folded_words(name) for name in values}
    named = [(number, stem(path)) for number, path in enumerate(masks.masks)]
    names = grouped_by_name((number, name) for number, name in named if folded_words(name) in wanted)
    return label_structures(masks.path, names, mask_of, size, values)


def _mask(path: Path) -> tuple[Bool[np.ndarray, "z y x"], Affine]:
    """Where a file has its one value, and from indices to mm."""
    grid = read_grid(path, labels=True)
    labels = whole_values(path, grid.array)
    found = labels != 0
    if len(several := np.unique(labels[found])) > 1:
        shown = ", ".join(map(str, several[:5].tolist()))
        raise DataError(
            f"{path}: has the values {shown} where a mask of one structure has one; a label of several has the name of "
            "its scan"
        )
    return found, grid.affine
