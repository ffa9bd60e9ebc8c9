"""One slice as a small picture, with labels in colour over it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from jcl.report.figures.overlay import FILL, outline, resampling, resize_labels, rgb
from jcl.report.figures.pictures import COLOURS
from jcl.report.figures.png import indexed_png

__all__ = ["WHITE", "class_colours", "slice_tile"]

WHITE = (255, 255, 255)
GREYS = 64
"""Grey values of a tile, at most; a palette has room for them plain and once for each class."""


def class_colours(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Name and colour of each class; colours begin anew when all are taken."""
    return tuple((name, COLOURS[number % len(COLOURS)]) for number, name in enumerate(names))


def slice_tile(
    image: Float[np.ndarray, "h w"],
    size: tuple[int, int],
    labels: UInt8[np.ndarray, "h w"] | None = None,
    truth: UInt8[np.ndarray, "h w"] | None = None,
) -> bytes:
    """PNG of a slice.

    Args:
        image: intensities from 0 to 1.
        size: height and width of the picture in pixels.
        labels: thinly filled, with an outline inside the border; label k + 1 in the colour of class k.
        truth: drawn as white outline inside its border.
    """
    rows, columns = (resampling(bins, pixels) for bins, pixels in zip(size, image.shape, strict=True))
    colours = [rgb(colour) for colour in COLOURS]
    shown = np.zeros(size, np.int64) if labels is None else resize_labels(labels, rows, columns)
    shown = np.where(shown > 0, (shown - 1) % len(colours) + 1, 0)
    present = np.unique(np.append(shown, 0))
    greys = min(GREYS, (255 - len(present)) // len(present))
    grey = np.rint((rows @ image.astype(np.float32) @ columns.T).clip(0, 1) * (greys - 1)).astype(np.int64)
    place = np.searchsorted(present, shown)
    indices = place * greys + grey
    edge = outline(shown) & (shown > 0)
    indices[edge] = len(present) * greys + place[edge]
    if truth is not None:
        true = resize_labels(truth, rows, columns)
        indices[outline(true) & (true > 0)] = len(present) * greys
    palette = [
        _blend(level / (greys - 1), None if k == 0 else colours[k - 1]) for k in present for level in range(greys)
    ]
    palette += [WHITE if k == 0 else colours[k - 1] for k in present]
    return indexed_png(indices.astype(np.uint8), palette)


def _blend(level: float, colour: tuple[int, int, int] | None) -> tuple[int, int, int]:
    """A grey from 0 to 1 under a thin layer of colour."""
    over, opacity = ((0, 0, 0), 0.0) if colour is None else (colour, FILL)
    red, green, blue = (round(255 * level * (1 - opacity) + value * opacity) for value in over)
    return red, green, blue
