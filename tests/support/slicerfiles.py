"""Segmentations as 3D Slicer writes them, by its description of the format."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def write_segmentation(
    path: Path,
    array: np.ndarray,
    segments: Sequence[tuple[str, int, int]],
    *,
    spacing: Sequence[float] = (1.5, 1.5, 5.0),
    origin: Sequence[float] = (0.0, 0.0, 0.0),
    old: bool = False,
) -> Path:
    """Write a .seg.nrrd.

    Args:
        path: of the file.
        array: (z, y, x), or (layers, z, y, x).
        segments: name, value and layer of each.
        spacing, origin: in mm, x, y and z; LPS.
        old: as before Slicer 4.11, without value and layer.
    """
    layers = array.ndim == 4
    sizes = [*array.shape[: array.ndim - 3], *array.shape[:-4:-1]]
    axes = [f"({','.join(str(mm if i == j else 0) for j in range(3))})" for i, mm in enumerate(spacing)]
    lines = [
        "NRRD0004",
        "type: unsigned char",
        f"dimension: {array.ndim}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, sizes))}",
        f"space directions: {'none ' * layers}{' '.join(axes)}",
        f"kinds: {'list ' * layers}domain domain domain",
        "encoding: gzip",
        f"space origin: ({','.join(map(str, origin))})",
    ]
    for number, (name, value, layer) in enumerate(segments):
        lines += [f"Segment{number}_ID:=Segment_{number + 1}", f"Segment{number}_Name:={name}"]
        lines += [] if old else [f"Segment{number}_LabelValue:={value}", f"Segment{number}_Layer:={layer}"]
    head = "\n".join([*lines, "Segmentation_MasterRepresentation:=Binary labelmap", "", ""])
    voxels = np.moveaxis(array, 0, -1) if layers else array
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head.encode() + gzip.compress(np.ascontiguousarray(voxels, np.uint8).tobytes()))
    return path
