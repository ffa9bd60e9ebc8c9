"""Pictures of what a training sees and has learned, as arrays that any tracker takes."""

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer, UInt8
from PIL import Image

__all__ = ["compared", "similarities", "tiled"]

COLUMNS = 8
"""Images beside each other."""

COLOURS = np.array(
    [(230, 25, 75), (67, 99, 216), (245, 130, 49), (66, 212, 244), (60, 180, 75), (240, 50, 230), (255, 225, 25)],
    np.float32,
)
"""One a class, from the beginning again after the last."""

OPAQUE = 0.5
"""Share of its colour where a class is."""

BINS = 10
"""Differences of position in the curve."""


def tiled(images: Float[np.ndarray, "b h w"]) -> UInt8[np.ndarray, "H W 3"]:
    """Grey images from 0 to 1 in rows of up to eight; what lies beyond is cut."""
    count, height, width = images.shape
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    sheet = np.zeros((rows * columns, height, width), np.float32)
    sheet[:count] = images
    sheet = sheet.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)
    return np.repeat(_bytes(sheet)[..., None], 3, axis=2)


def compared(
    images: Float[np.ndarray, "b h w"], labels: Integer[np.ndarray, "b h w"], found: Integer[np.ndarray, "b h w"]
) -> UInt8[np.ndarray, "H W 3"]:
    """A row for each slice: as it is, with its labels, and with what the network found; 0 is the background."""
    rows = [
        np.concatenate([_coloured(image, np.zeros_like(label)), _coloured(image, label), _coloured(image, guess)], 1)
        for image, label, guess in zip(images, labels, found, strict=True)
    ]
    return np.concatenate(rows)


def similarities(
    cosines: Float[np.ndarray, "n n"], positions: Float[np.ndarray, " n"], volumes: Sequence[int]
) -> UInt8[np.ndarray, "H W 3"]:
    """How similar the features of slices are, and how that depends on where the slices lie.

    At the left the cosine of each pair, slices in the order of their positions (0 to 1); at the right its mean over
    the pairs of different volumes, by the difference of their positions.
    """
    from matplotlib.figure import Figure

    order = np.argsort(positions, kind="stable")
    figure = Figure(figsize=(8, 3.6), dpi=90, layout="constrained")
    matrix, curve = figure.subplots(1, 2)
    shown = matrix.imshow(cosines[np.ix_(order, order)], vmin=-1, vmax=1, cmap="RdBu_r")
    figure.colorbar(shown, ax=matrix, label="cosine")
    ticks = np.linspace(0, len(order) - 1, min(5, len(order))).round().astype(int)
    for axis in (matrix.xaxis, matrix.yaxis):
        axis.set_ticks(ticks, [f"{positions[order[n]]:.2f}" for n in ticks])
        axis.set_label_text("position in the volume")
    apart, means = by_distance(cosines, positions, volumes)
    curve.plot(apart, means, marker="o")
    curve.set(xlim=(0, 1), ylim=(-1, 1), xlabel="difference of positions", ylabel="mean cosine, other volume")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB"))


def by_distance(
    cosines: Float[np.ndarray, "n n"], positions: Float[np.ndarray, " n"], volumes: Sequence[int]
) -> tuple[list[float], list[float]]:
    """Mean cosine of pairs of different volumes: the middles of those tenths of difference that have any, and means."""
    numbers = np.asarray(volumes)
    pairs = np.triu(numbers[:, None] != numbers[None])
    apart = np.abs(positions[:, None] - positions[None])[pairs]
    bins = np.minimum((apart * BINS).astype(int), BINS - 1)
    used = np.unique(bins).tolist()
    return [(n + 0.5) / BINS for n in used], [float(cosines[pairs][bins == n].mean()) for n in used]


def _coloured(image: Float[np.ndarray, "h w"], classes: Integer[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    grey = np.repeat(image.clip(0, 1)[..., None], 3, axis=2) * 255
    colours = COLOURS[(classes.astype(int) - 1) % len(COLOURS)]
    mixed = np.where(classes[..., None] > 0, (1 - OPAQUE) * grey + OPAQUE * colours, grey)
    return mixed.round().astype(np.uint8)


def _bytes(values: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    return (values.clip(0, 1) * 255).round().astype(np.uint8)
