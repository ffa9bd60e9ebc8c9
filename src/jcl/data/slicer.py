"""Segmentations of 3D Slicer (.seg.nrrd): segments with names, several of which may share a voxel.

Their values are the order in which somebody added them, so that 1 is the liver in one file and the spleen in another:
what a segment is, its name says.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int32

from jcl.data.affine import SAME, Affine, Size
from jcl.data.folders import folded_words
from jcl.data.grids import read_grid
from jcl.data.imagefile import Segment, named_segments
from jcl.data.named_structures import Members, grouped_by_name, label_structures
from jcl.errors import DataError

__all__ = ["read_structures", "structure_names"]


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
    own = np.eye(4)
    own[:3, :3], own[:3, 3] = grid.direction * grid.spacing, grid.origin
    empty = grid.size == (1, 1, 1)  # Slicer writes one voxel, anywhere, where there is nothing

    def mask_of(members: Members) -> Bool[np.ndarray, "z y x"]:
        mask = np.zeros(size[::-1], np.bool_)
        for segment in (segments[number] for number in members if not empty):
            if segment.layer >= len(grid.array):
                raise DataError(f"{path}: has {len(grid.array)} layers, none for {segment.name}; save it again")
            _place(path, grid.array[segment.layer] == segment.value, own, affine, mask)
        return mask

    return label_structures(path, names, mask_of, size, values)


def _named(segments: Mapping[int, Segment]) -> dict[str, Members]:
    return grouped_by_name((number, segment.name) for number, segment in segments.items())


def _place(
    path: Path,
    part: Bool[np.ndarray, "k l m"],
    own: Affine,
    affine: Affine,
    mask: Bool[np.ndarray, "z y x"],
) -> None:
    """Set the voxels of `mask` that those of `part` are.

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
        raise DataError(f"{path}: a segment lies outside of its image; are they of one scan?")
    mask[z, y, x] = True
