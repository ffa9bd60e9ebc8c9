"""Pictures, PNG and JPEG: whole, of a size that can be, and saying once how they are to be looked at."""

import struct
import warnings
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jcl.data.imagefile.claims import check_sizes, refuse_packed
from jcl.errors import DataError

__all__ = ["check_jpeg", "check_png", "palette_indices"]

GREY, GREY_ALPHA = 0, 4
"""Colour types of PNG that cannot be read with transparency."""

JPEG_SCAN = 0xDA
JPEG_FRAMES = (0xC0, 0xC1, 0xC2)
"""Start of a frame: baseline, extended and progressive."""

ORIENTATION = 0x0112
"""Tag of EXIF."""

SHOWN = {
    2: "mirrored", 3: "turned by 180 degrees", 4: "mirrored", 5: "mirrored and turned by 90 degrees",
    6: "turned by 90 degrees", 7: "mirrored and turned by 90 degrees", 8: "turned by 90 degrees",
}  # fmt: skip
"""How viewers show a picture by its orientation; 1 is as it lies in the file."""


def check_png(path: Path) -> None:
    """Check each chunk's CRC, to the end mark, the size that the first chunk claims, and how the picture is shown.

    Raises:
        DataError: something is not as it should be.
    """
    with path.open("rb") as file:
        if file.read(8) != b"\x89PNG\r\n\x1a\n":
            raise DataError(f"{path}: not a PNG file")
        kind, colours = b"", None
        while kind != b"IEND":
            head = file.read(8)
            if len(head) < 8:
                refuse_packed(path, "its end is missing")
            length, kind = struct.unpack(">I4s", head)
            body = file.read(min(length, path.stat().st_size))
            if struct.pack(">I", zlib.crc32(kind + body)) != file.read(4):
                refuse_packed(path, "a checksum does not fit")
            if kind == b"IHDR" and length == 13:
                colours = body[9]
                check_sizes(path, struct.unpack_from(">II", body), path.stat().st_size)
            if colours == GREY_ALPHA or (kind, colours) == (b"tRNS", GREY):
                raise DataError(f"{path}: has an alpha channel (grey with transparency); save it without")
    _check_orientation(path)


def check_jpeg(path: Path) -> None:
    """Check the size that the frame header claims, the end mark (JPEG has no checksum), and how the picture is shown.

    Raises:
        DataError: something is not as it should be.
    """
    data = path.read_bytes()
    place, sizes = 2, ()
    if not data.startswith(b"\xff\xd8\xff"):
        raise DataError(f"{path}: not a JPEG file")
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != JPEG_SCAN:
        marker, length = struct.unpack_from(">xBH", data, place)
        if marker in JPEG_FRAMES and place + 10 <= len(data):
            sizes = struct.unpack_from(">HHB", data, place + 5)
        place += 2 + length
    if data.find(b"\xff\xd9", place) < 0:
        refuse_packed(path, "its end is missing")
    check_sizes(path, sizes, len(data))
    _check_orientation(path)


def _check_orientation(path: Path) -> None:
    """Some viewers turn a picture by its EXIF tag, some do not, and labels lie as the viewer showed it."""
    try:
        with _opened(path) as picture:  # reads the head alone
            shown = SHOWN.get(picture.getexif().get(ORIENTATION, 1))
    except (OSError, SyntaxError, ValueError, TypeError, struct.error, Image.DecompressionBombError):
        return  # what its pixels are is read by others
    if shown:
        raise DataError(
            f"{path}: by its EXIF orientation it is to be shown {shown}, which not all programs do; save it as "
            "it is shown (`mogrify -auto-orient`), or take the tag away"
        )


def palette_indices(path: Path) -> UInt8[np.ndarray, "y x"] | None:
    """The pixels of a PNG file with a palette of colours, as label files have one: indices into it; else None.

    Raises:
        DataError: the palette is of greys that are not the indices, so that either may be the label; or Pillow does not
            read so large a picture.
    """
    try:
        return _indices(path)
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: is too large for a picture with a palette; save it as plain grey") from error


def _indices(path: Path) -> UInt8[np.ndarray, "y x"] | None:
    with _opened(path) as picture:
        if picture.mode != "P":
            return None
        indices = np.array(picture, np.uint8)
        palette = np.reshape(picture.getpalette("RGB") or [], (-1, 3))
    used = np.unique(indices)
    colours = palette[used[used < len(palette)]]
    if (colours == colours[:, :1]).all() and colours[:, 0].tolist() != used.tolist():
        greys = ", ".join(map(str, colours[:8, 0].tolist()))
        raise DataError(
            f"{path}: its pixels are indices ({', '.join(map(str, used[:8].tolist()))}) of other greys ({greys}); "
            "save it as plain grey, with the values that are meant"
        )
    return indices


@contextmanager
def _opened(path: Path) -> Generator[Image.Image]:
    """A picture, whatever its size, which `check_sizes` allows or not: Pillow has a limit of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path) as picture:
            yield picture
