"""Labels and maps as a NIfTI file with the header of their scan: both forms, their codes, units and time."""

import gzip
import io
import struct
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, Integer

__all__ = ["NIFTI_KINDS", "write_nifti_label", "write_nifti_map"]

NIFTI_KINDS = {"uint8": 2, "int32": 8, "uint16": 512, "uint32": 768, "float32": 16}
"""Types of label values and of maps, and their codes."""

SPACE = 7
"""Bits of the units that are those of lengths."""

Order = Literal["<", ">"]

LEVEL = 6
CHUNK = 1 << 22


def write_nifti_label(path: Path, labels: Integer[np.ndarray, "z y x"], header: bytes) -> None:
    """Write labels, packed if the name ends in .gz.

    The header is kept, but for what it says of the voxels' values, of axes that labels do not have, and of extensions.

    Args:
        path: of the file.
        labels: of one of the types `NIFTI_KINDS`, in the order of the scan's own axes.
        header: the scan's first 352 bytes.

    Raises:
        OSError: the file cannot be written.
    """
    _write_file(path, labels, header)


def write_nifti_map(
    path: Path, values: Float32[np.ndarray, "z y x"] | Float32[np.ndarray, "k z y x"], header: bytes
) -> None:
    """Write a value for each voxel, or several along a fourth axis; else as `write_nifti_label`."""
    _write_file(path, values, header)


def _write_file(path: Path, labels: np.ndarray, header: bytes) -> None:
    order: Order = "<" if header[:4] == struct.pack("<i", 348) else ">"
    with path.open("wb") as file:
        if path.name.lower().endswith(".gz"):
            # Without name and time, so that the same labels are the same bytes.
            with gzip.GzipFile("", "wb", LEVEL, file, mtime=0) as packed:
                _write(packed, labels, header, order)
        else:
            _write(file, labels, header, order)


def _write(file: io.BufferedIOBase, labels: np.ndarray, header: bytes, order: Order) -> None:
    file.write(_label_header(header, labels, order))
    flat = labels.reshape(-1)
    for at in range(0, len(flat), CHUNK):
        part = flat[at : at + CHUNK]
        file.write(part.astype(part.dtype.newbyteorder(order)).tobytes())


def _label_header(header: bytes, labels: np.ndarray, order: Order) -> bytes:
    new = bytearray(header[:348])
    rank = min(struct.unpack_from(f"{order}h", header, 40)[0], 3) if labels.ndim == 3 else 4
    struct.pack_into(f"{order}8h", new, 40, rank, *labels.shape[::-1], *[1] * (7 - labels.ndim))
    if rank == 4:
        struct.pack_into(f"{order}f", new, 92, 1)
        new[123] &= SPACE
    struct.pack_into(f"{order}3fh", new, 56, 0, 0, 0, 0)  # intent
    struct.pack_into(f"{order}2h", new, 70, NIFTI_KINDS[labels.dtype.name], 8 * labels.dtype.itemsize)
    struct.pack_into(f"{order}3f", new, 108, 352, 1, 0)  # where the voxels begin, slope and intercept
    struct.pack_into(f"{order}2f", new, 124, 0, 0)  # range to display
    struct.pack_into(f"{order}2i", new, 140, 0, 0)
    new[328:344] = bytes(16)  # name of the intent
    new[344:348] = b"n+1\0"
    return bytes(new) + bytes(4)
