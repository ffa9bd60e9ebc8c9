"""Volumes that are labels by what they hold, whatever their names say: few whole values, on the grid of a scan."""

from itertools import islice, takewhile
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from jcl.data.folders import folded
from jcl.data.geometry import same_grid
from jcl.data.notes import noted
from jcl.data.sources import Source, stem, suffix_of
from jcl.data.volumes import Volume, read_image
from jcl.errors import DataError

__all__ = ["looks_like_labels", "refuse_label_map"]

FEW = 8
"""So many whole values or fewer are those of labels; a scan has dozens in its noise alone."""

MANY = 128
"""Labels of up to so many values are known by this too: nearly all neighbours within a structure are equal."""

EVEN = 0.7
"""Share of equal neighbours, of those of which one is not 0, from which a volume is even as labels are."""

SAMPLE = 1 << 16
"""Voxels that are looked at first; they tell a scan."""

NEIGHBOURS = 4
"""Volumes that are read, of those whose names are nearest, to find the scan that labels belong to."""


def looks_like_labels(array: Float32[np.ndarray, "c d h w"]) -> bool:
    """Whether a volume has one channel of few whole values, as labels have."""
    if len(array) != 1:
        return False
    voxels = array.reshape(-1)
    sample = voxels[:: max(1, voxels.size // SAMPLE)]
    if len(np.unique(sample)) > MANY or not np.array_equal(np.rint(sample), sample):
        return False
    values = np.unique(voxels)
    if len(values) > MANY or not np.array_equal(np.rint(values), values) or values[0] < 0:
        return False
    if len(values) <= FEW:
        return True
    left, right = array[..., :-1], array[..., 1:]
    structures = np.count_nonzero((left != 0) | (right != 0))
    return bool(np.count_nonzero((left == right) & (left != 0)) >= EVEN * max(1, structures))


def refuse_label_map(path: Source, volume: Volume, source: Path) -> None:
    """Refuse a volume that looks like labels and lies on the grid of a scan beside it.

    A set of such volumes alone is not refused: without a scan nothing says that they are labels.

    Args:
        path: the file of the volume; what is no single file is let pass.
        volume: as `read_image` gives it.
        source: the folder beyond which no scan is looked for.

    Raises:
        DataError: it is one; the message names the scan.
    """
    if not isinstance(path, Path) or not looks_like_labels(volume.array):
        return
    scan = next((other for other in _nearest(path, source) if _is_scan(other, volume)), None)
    if scan is not None:
        shown = scan.name if scan.parent == path.parent else f"{scan.parent.name}/{scan.name}"
        raise DataError(
            f"{path}: not a scan but labels, by its few whole values and the grid of {shown}; move it into a folder "
            "named labels, under the name of its scan"
        )


def _is_scan(path: Path, like: Volume) -> bool:
    try:
        with noted():  # what is remarkable about the neighbour is said where it is a case itself
            other = read_image([path])
    except DataError:
        return False
    return same_grid(other.geometry, like.geometry) and not looks_like_labels(other.array)


def _nearest(path: Path, source: Path) -> list[Path]:
    """Image files in the folder of `path`, and of its name in folders beside that, those of the likest names first."""
    name = folded(stem(path))

    def likeness(other: Path) -> tuple[int, str]:
        equal = takewhile(lambda pair: pair[0] == pair[1], zip(name, folded(stem(other)), strict=False))
        return -len(list(equal)), other.as_posix()

    try:
        here = [other for other in path.parent.iterdir() if suffix_of(other) and other != path and other.is_file()]
        inside = path.parent != source and path.parent.is_relative_to(source)
        beside = path.parent.parent.iterdir() if inside else ()
        folders = [folder for folder in beside if folder.is_dir() and folder != path.parent]
        there = [other for folder in islice(sorted(folders), 64) for other in folder.iterdir() if _named(other, name)]
    except OSError:
        return []
    return sorted([*here, *there], key=likeness)[:NEIGHBOURS]


def _named(path: Path, name: str) -> bool:
    theirs = folded(stem(path))
    return bool(suffix_of(path)) and not path.name.startswith(".") and (theirs in name or name in theirs)
