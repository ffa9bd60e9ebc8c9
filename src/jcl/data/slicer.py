"""Segmentations of 3D Slicer (.seg.nrrd): segments with names, several of which may share a voxel.

Their values are the order in which somebody added them, so that 1 is the liver in one file and the spleen in another:
what a segment is, its name says.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int32

from jcl.data.affine import Affine, Size
from jcl.data.folders import folded_words
from jcl.data.grids import read_grid
from jcl.data.imagefile import Segment, named_segments
from jcl.data.named_structures import Members, grouped_by_name, label_structures, set_voxels
from jcl.errors import DataError

__all__ = ["check_values", "read_structures", "structure_names"]


def structure_names(path: Path) -> tuple[str, ...]:
    """Names of the segments in the file, each once, in the file's order.

    Raises:
        DataError: the file cannot be read.
    """
    return tuple(_named(named_segments(path)))


def read_structures(path: Path, affine: Affine, size: Size, values: Mapping[str, int]) -> Int32[np.ndarray, "z y x"]:
    """The segments on the voxels of the volume that they are of, in its own order of axes.

    A file holds no more of the volume than its segments need; what is outside is empty.

    Args:
        path: the .seg.nrrd file.
        affine: from indices x, y, z of the volume to mm (LPS).
        size: voxels of the volume along x, y, z.
        values: see `jcl.data.named_structures.label_structures`.

    Raises:
        DataError: the file cannot be read, its voxels are not those of the volume, or `values` names none of its
            segments.
    """
    segments = named_segments(path)
    names = _named(segments)
    if not {folded_words(name) for name in names} & {folded_words(name) for name in values}:
        raise DataError(
            f"{path}: its segments are {', '.join(names)}, and --labels names {', '.join(values)}; name them alike, or "
            "save it as .nii.gz, which goes by values"
        )
    grid = read_grid(path)
    empty = grid.size == (1, 1, 1)  # Slicer writes one voxel, anywhere, where there is nothing

    def mask_of(members: Members) -> Bool[np.ndarray, "z y x"]:
        mask = np.zeros(size[::-1], np.bool_)
        for segment in (segments[number] for number in members if not empty):
            if segment.layer >= len(grid.array):
                raise DataError(f"{path}: has {len(grid.array)} layers, none for {segment.name}; save it again")
            set_voxels(path, mask, affine, grid.array[segment.layer] == segment.value, grid.affine)
        return mask

    return label_structures(path, names, mask_of, size, values)


def check_values(path: Path, values: Mapping[str, int]) -> None:
    """See that a file that is read by its values, as `dataset.json` has it, does not call them otherwise.

    Args:
        path: a .nrrd file.
        values: label value of each structure.

    Raises:
        DataError: it has a segment of a structure's name and another value.
    """
    wanted = {folded_words(name): value for name, value in values.items()}
    for segment in named_segments(path).values():
        value = wanted.get(folded_words(segment.name), segment.value)
        if value != segment.value:
            raise DataError(
                f"{path}: its header calls the value {segment.value} {segment.name}, which has the value {value} in "
                "this data set; save it with the data set's values"
            )


def _named(segments: Mapping[int, Segment]) -> dict[str, Members]:
    return grouped_by_name((number, segment.name) for number, segment in segments.items())
