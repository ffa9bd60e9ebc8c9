"""A picture of a segmented scan: slices with outlines, and how large each structure is."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32, UInt8

from jcl.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLOURS", "WINDOW", "choose_slices", "draw_overview", "plain"]

COLOURS = ("#e6194b", "#4363d8", "#f58231", "#42d4f4", "#3cb44b", "#f032e6", "#ffe119", "#911eb4", "#bfef45", "#fabed4")
"""One a class, distinguished by people with the usual colour blindnesses too; they begin anew after the tenth."""

SLICES = 6
"""Shown at most."""

INCHES = 2.6
WINDOW = (0.5, 99.5)
"""Percentiles of the scan that are shown as black and white."""


def choose_slices(classes: UInt8[np.ndarray, "d h w"], most: int = SLICES) -> list[int]:
    """Which slices are shown, rising: the middle of what is segmented, and where each structure is largest.

    Where these are fewer than `most`, others between them at equal steps; without a structure, the whole scan's.
    """
    areas = {int(value): (classes == value).sum((1, 2)) for value in np.unique(classes) if value}
    used = np.flatnonzero(sum(areas.values())) if areas else np.arange(len(classes))
    first, last = int(used[0]), int(used[-1])
    by_size = sorted(areas.values(), key=lambda area: -int(area.sum()))
    wanted = [(first + last) // 2, *(int(area.argmax()) for area in by_size)]
    chosen = list(dict.fromkeys(wanted))[:most]
    for number in np.linspace(first, last, most + 2)[1:-1].round().astype(int).tolist():
        if len(chosen) < most and number not in chosen:
            chosen.append(number)
    return sorted(chosen)


def draw_overview(
    image: Float32[np.ndarray, "d h w"],
    classes: UInt8[np.ndarray, "d h w"],
    spacing: Sequence[float],
    names: Sequence[str],
    sizes: Sequence[str],
    title: str,
) -> bytes:
    """A PNG of slices of a scan with the outline of each structure, and a legend with its size.

    Args:
        image: the scan (one channel), turned as the classes are.
        classes: 0 is the background, k + 1 is `names[k]`.
        spacing: of slices, rows and columns, mm.
        names: of the structures.
        sizes: what the legend says of each.
        title: of the picture.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    chosen = choose_slices(classes)
    columns = min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    ratio = image.shape[1] * spacing[1] / (image.shape[2] * spacing[2])
    height = INCHES * min(max(ratio, 0.4), 2.5)
    legend = 0.28 * (-(-len(names) // 2)) + 0.35
    figure = Figure(figsize=(INCHES * columns, (height + 0.25) * rows + legend), layout="constrained")
    low, high = (float(value) for value in np.percentile(image, WINDOW))
    for place, number in zip(figure.subplots(rows, columns, squeeze=False).flat, range(rows * columns), strict=True):
        place.set_axis_off()
        if number < len(chosen):
            shown: Any = {"cmap": "gray", "vmin": low, "vmax": max(high, low + 1e-6), "aspect": spacing[1] / spacing[2]}
            place.imshow(image[chosen[number]], **shown)
            place.set_title(f"slice {chosen[number] + 1} of {len(image)}", fontsize=8)
            _outline(place, classes[chosen[number]], len(names))
    handles = [
        Line2D([], [], color=_colour(k), lw=2, label=f"{plain(name)}: {size}")
        for k, (name, size) in enumerate(zip(names, sizes, strict=True))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.suptitle(plain(title), fontsize=10)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, metadata={"Software": "jcl"})
    return file.getvalue()


def _outline(place: "Axes", classes: UInt8[np.ndarray, "h w"], count: int) -> None:
    """Between pixels of a structure and others; around the slice there is nothing, so that each line is closed."""
    for value in (value for value in range(1, count + 1) if (classes == value).any()):
        mask: Float[np.ndarray, "H W"] = np.pad(classes == value, 1).astype(float)
        axes = [np.arange(-1, side + 1) for side in classes.shape]
        place.contour(axes[1], axes[0], mask, [0.5], colors=[_colour(value - 1)], linewidths=1.2)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def plain(name: str) -> str:
    """A name as it is: a dollar would begin a formula, and a legend hides what begins with an underscore."""
    return f" {printable(name)}".replace("$", r"\$") if name.startswith("_") else printable(name).replace("$", r"\$")
