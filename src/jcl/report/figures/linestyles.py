"""How each row of a table is drawn in charts: distinguished by colour, mark and dashes, never by colour alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from jcl.report.figures.chart import INK, spread
from jcl.report.stats.results import OURS, Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["End", "LineStyle", "draw_mark", "label_ends", "row_styles"]

STRONG = "#d55e00"
OTHERS = (
    ("#0072b2", "s"), ("#009e73", "^"), ("#b565c9", "D"), ("#8a7a00", "v"),
    ("#1f8fb8", "P"), ("#808080", "X"), ("#a8648a", "<"), ("#5b7fd6", ">"),
)  # fmt: skip
"""Neither light nor dark: each has a contrast of 3 to white and to near black (WCAG 2.2, criterion 1.4.11)."""

DASHES = ((0, ()), (0, (1, 1.2)), (0, (4, 1.5, 1, 1.5)))
"""Taken in turn when colours and marks begin anew."""


@dataclass(frozen=True)
class LineStyle:
    """A row's colour, mark (as Matplotlib names it), dashes, width in points, and place in the drawing order."""

    colour: str
    mark: str
    dashes: tuple[float, tuple[float, ...]]
    width: float
    order: int


End: TypeAlias = tuple[str, float, float, LineStyle]
"""A row's name, the place of its last mark, and its style."""


def row_styles(grid: Grid) -> dict[str, LineStyle]:
    """A style for each row: `OURS` strong, rows without pre-training dashed in the page's ink."""
    styles: dict[str, LineStyle] = {}
    others = 0
    for row in grid.rows:
        if row == OURS:
            styles[row] = LineStyle(STRONG, "o", (0, ()), 2.6, 5)
        elif all(cell.start is None for column in grid.columns for cell in grid.cells[row, column.name]):
            styles[row] = LineStyle(INK, "o", (0, (4, 2)), 1.4, 4)
        else:
            turn, number = divmod(others, len(OTHERS))
            styles[row] = LineStyle(*OTHERS[number], DASHES[turn % len(DASHES)], 1.2, 3)
            others += 1
    return styles


def draw_mark(axes: "Axes", x: float, y: float, style: LineStyle, key: str, *, hollow: bool) -> None:
    """A row's mark with the gid `key`, which `to_svg` can give a title."""
    size = 4.5 + 0.9 * style.width
    fill = "none" if hollow else style.colour
    (mark,) = axes.plot([x], [y], style.mark, ms=size, mec=style.colour, mfc=fill, mew=1.2, zorder=style.order + 0.5)
    mark.set_gid(key)


def label_ends(axes: "Axes", ends: Sequence[End]) -> None:
    """Names at the right of the axes, apart from each other, with a thin leader to the last mark of each."""
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    figure_height = 72 * axes.figure.get_figure(root=True).get_size_inches()[1]
    a_point = (high - low) / (figure_height * axes.get_position().height)
    margin = 0.02 * (right - left)
    settled = spread([y for _, _, y, _ in ends], 13 * a_point, low, high)
    for (row, x, y, style), place in zip(ends, settled, strict=True):
        look: dict[str, Any] = {"color": style.colour, "clip_on": False}
        axes.plot([x, right, right + margin], [y, place, place], lw=0.6, alpha=0.45, **look)
        axes.plot([right + 1.7 * margin], [place], style.mark, ms=5, **look)
        weight = "bold" if row == OURS else "normal"
        axes.text(right + 2.5 * margin, place, row, color=INK, fontsize=9.5, weight=weight, va="center_baseline")
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
