"""Segmentations as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer

from jcl.errors import DataError
from jcl.inference.overview import COLOURS

__all__ = ["COLOURS", "draw_segmentations"]


def draw_segmentations(
    path: Path,
    image: Float[np.ndarray, "d h w"],
    rows: Mapping[str, Integer[np.ndarray, "d h w"]],
    *,
    class_names: Sequence[str],
    spacing: Sequence[float],
    slices: int = 6,
) -> None:
    """Draw slices of a scan, from first to last labelled one, once for each labelling of it.

    Args:
        path: the PNG to write.
        image: shown from its 1st to its 99th percentile.
        rows: title -> labels; label k + 1 is `class_names[k]`. The first decides which slices are shown.
        class_names: names of the foreground classes.
        spacing: of slices, rows and columns, in mm.
        slices: how many are shown.

    Raises:
        DataError: the file cannot be written.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    labelled = np.flatnonzero(next(iter(rows.values())).any(axis=(1, 2)))
    first, last = (labelled[0], labelled[-1]) if len(labelled) else (0, len(image) - 1)
    shown = np.unique(np.linspace(first, last, slices).round().astype(int))
    colours = [COLOURS[k % len(COLOURS)] for k in range(len(class_names))]
    low, high = np.percentile(image, (1, 99))
    figure = Figure(figsize=(1.8 * len(shown), 1.8 * len(rows) + 0.4), layout="constrained")
    axes = figure.subplots(len(rows), len(shown), squeeze=False)
    for (title, labels), row in zip(rows.items(), axes, strict=True):
        for place, number in zip(row, shown, strict=True):
            place.imshow(image[number], cmap="gray", vmin=low, vmax=high, aspect=spacing[1] / spacing[2])
            overlay = np.ma.masked_equal(labels[number], 0)
            place.imshow(
                overlay, cmap=ListedColormap(colours), vmin=1, vmax=len(colours), alpha=0.5,
                interpolation="nearest", aspect=spacing[1] / spacing[2],
            )  # fmt: skip
            place.set(xticks=[], yticks=[])
        row[0].set_ylabel(title)
    handles = [Patch(color=colour, label=name) for name, colour in zip(class_names, colours, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error
