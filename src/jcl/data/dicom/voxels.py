"""Voxels of a DICOM volume: stored values of each slice, decoded, and rescaled as its own file says."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Integer
from pydicom.pixels.processing import convert_color_space

from jcl.data.dicom.codec import decode, decode_rle, encoded_frames
from jcl.data.dicom.file import open_dicom
from jcl.data.dicom.header import COMPRESSED, RLE, Header, read_header
from jcl.data.dicom.planes import Plane
from jcl.data.dicom.stack import Stack, sort_slices
from jcl.data.notes import note
from jcl.errors import DataError
from jcl.files import read_error

__all__ = ["read_series"]

Frames = tuple[int, Integer[np.ndarray, "..."]]
"""A slice's place in the volume, and its stored values."""


def read_series(files: Sequence[Path], *, channels: int = 1) -> tuple[Float32[np.ndarray, "..."], Stack]:
    """Read the files of one volume, given in any order.

    Values are rescaled slice by slice (RescaleSlope, RescaleIntercept), those of MONOCHROME1 turned
    so that high is bright; padding (PixelPaddingValue) stays what it is. Read are native, deflated,
    RLE, JPEG, JPEG-LS and JPEG 2000 data of 8, 16 or 32 bits (compressed ones up to 16). Colours, for
    which `channels` has to be 3, are read as RGB from native or RLE data of 8 bits (RGB, YBR_FULL).

    Returns:
        voxels: (z, y, x), of colours (3, z, y, x). z rises along the normal of the slices (row direction x
            column direction), so that the axes are right-handed.
        geometry: size, spacing, origin and direction as SimpleITK has them, and which file is which slice.

    Raises:
        DataError: the files do not make a volume (`sort_slices`), one is damaged, or has other channels.
        WriteError: compressed data need a temporary file, and there is no room.
    """
    volume = sort_slices([read_header(path) for path in files])
    samples = volume.slices[0].header.samples
    if samples != channels:
        path = volume.slices[0].header.path
        what = "a colour image (3 channels)" if samples == 3 else "a grey image (1 channel)"
        raise DataError(f"{path}: {what}, but {channels} wanted; set the channels, convert it or leave it out")
    for line in volume.notes:
        note(line)
    columns, rows, depth = volume.size
    array = np.empty((samples, depth, rows, columns), np.float32)
    for read in (_read_files, _read_compressed):
        for at, stored in read(volume):
            part = volume.slices[at]
            array[:, at] = _rescaled(stored, part.header, part.plane)
    return (array if samples == 3 else array[0]), volume


def _places(volume: Stack) -> dict[Path, dict[int, int]]:
    """Of each file, which slice of the volume each of its frames is."""
    places: dict[Path, dict[int, int]] = {}
    for at, part in enumerate(volume.slices):
        places.setdefault(part.header.path, {})[part.frame] = at
    return places


def _read_files(volume: Stack) -> Iterator[Frames]:
    """Frames that need no decoder: native ones, and RLE."""
    for path, frames in _places(volume).items():
        header = volume.slices[next(iter(frames.values()))].header
        if header.syntax in COMPRESSED:
            continue
        try:
            with open_dicom(path) as file:
                if header.syntax == RLE:
                    encoded = encoded_frames(header, file)
                    yield from ((at, decode_rle(header, encoded[frame])) for frame, at in frames.items())
                    continue
                for frame, at in frames.items():
                    file.seek(header.offset + frame * header.frame_bytes)
                    yield at, _native(header, file.read(header.frame_bytes))
        except OSError as error:
            raise read_error(path, error) from error


def _native(header: Header, data: bytes) -> Integer[np.ndarray, "..."]:
    if len(data) < header.frame_bytes:
        raise DataError(f"{header.path}: truncated while it was read; copy it again")
    kind = np.dtype(f"{'i' if header.signed else 'u'}{header.allocated // 8}")
    values = np.frombuffer(data, kind.newbyteorder("<" if header.little else ">"))
    if header.samples == 1:
        return values.reshape(header.rows, header.columns)
    if header.planar:
        return np.moveaxis(values.reshape(header.samples, header.rows, header.columns), 0, -1)
    return values.reshape(header.rows, header.columns, header.samples)


def _read_compressed(volume: Stack) -> Iterator[Frames]:
    """Frames that a decoder has to decode: all of them in one process."""
    order: list[int] = []

    def encoded() -> Iterator[tuple[Header, bytes]]:
        for path, frames in _places(volume).items():
            header = volume.slices[next(iter(frames.values()))].header
            if header.syntax in COMPRESSED:
                try:
                    with open_dicom(path) as file:
                        data = encoded_frames(header, file)
                except OSError as error:
                    raise read_error(path, error) from error
                order.extend(frames.values())
                yield from ((header, data[frame]) for frame in frames)

    for number, stored in enumerate(decode(encoded())):
        yield order[number], stored


def _rescaled(stored: Integer[np.ndarray, "..."], header: Header, plane: Plane) -> np.ndarray:
    """Values (rows, columns), of colours (3, rows, columns), from stored ones."""
    if header.samples == 3:
        if header.photometric == "YBR_FULL":
            stored = convert_color_space(np.ascontiguousarray(stored), "YBR_FULL", "RGB")
        return np.moveaxis(stored, -1, 0)
    values = stored.astype(np.int64)
    if header.stored < header.allocated and header.syntax not in COMPRESSED:  # of these the decoder has seen to it
        # Bits above the highest are no part of the value (old files have overlays there), not even its sign.
        values >>= header.high_bit + 1 - header.stored
        values &= (1 << header.stored) - 1
        if header.signed:
            values -= (values >> (header.stored - 1)) << header.stored
    if header.photometric == "MONOCHROME1":
        values = (-1 if header.signed else (1 << header.stored) - 1) - values
    return values * plane.slope + plane.intercept
