"""Small PNGs for a page: grey, or of a palette, and as data URIs."""

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["data_uri", "grey_png", "indexed_png"]


def grey_png(pixels: UInt8[np.ndarray, "h w"]) -> bytes:
    """Grey values as they are."""
    from PIL import Image

    return _encoded(Image.fromarray(pixels))


def indexed_png(
    indices: UInt8[np.ndarray, "h w"], palette: Sequence[tuple[int, int, int]], *, clear: bool = False
) -> bytes:
    """Numbers of colours of a palette of at most 256.

    Args:
        indices: the number of each pixel's colour.
        palette: red, green and blue from 0 to 255.
        clear: colour 0 is transparent.
    """
    from PIL import Image

    image = Image.fromarray(indices)
    image.putpalette([value for colour in palette for value in colour])
    return _encoded(image, transparency=0) if clear else _encoded(image)


def data_uri(png: bytes) -> str:
    """For the `src` of an image or the `url()` of a style."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _encoded(image: "Image.Image", **settings: int) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True, **settings)
    return file.getvalue()
