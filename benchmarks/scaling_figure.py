"""The figure of `bench_scaling.py`: a panel a question, both axes logarithmic.

python benchmarks/scaling_figure.py CURVES.json FIGURE.png    # draw again what bench_scaling.py --json has written
"""

import argparse
import itertools
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

COLUMNS = 3
LEAST_SPAN = 8.0
"""Largest over smallest value of the y axis, at least: else noise about a flat line looks like a trend."""


@dataclass(frozen=True)
class Curve:
    """What was measured for one question; curves with the same question share a panel."""

    question: str
    name: str
    across: str
    unit: str
    wanted: float
    """Slope of a straight line as it should be: 0 flat, 1 linear, 2 quadratic."""
    points: dict[float, float]
    gain: bool = False
    """Whether the straight line starts from the first point: what more processes should gain."""

    def slope(self) -> float:
        """Of the straight line through the logarithms of all points."""
        x, y = np.log(list(self.points)), np.log(list(self.points.values()))
        return float(np.polyfit(x, y, 1)[0])

    def last_slope(self) -> float:
        """Between the last two points."""
        (x, y), (end, value) = list(self.points.items())[-2:]
        return float(np.log(value / y) / np.log(end / x))


def draw(path: Path, curves: Sequence[Curve], title: str) -> None:
    """A panel a question, with a dashed line of the wished slope through each curve's middle, or its first point."""
    panels = [list(group) for _, group in itertools.groupby(curves, key=lambda curve: curve.question)]
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.4 * columns, 3.5 * rows), layout="constrained", squeeze=False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        draw_panel(axis, panel)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_panel(axis: Any, panel: Sequence[Curve]) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    for number, curve in enumerate(panel):
        x, y = np.array(list(curve.points)), np.array(list(curve.points.values()))
        axis.plot(x, y, "o-", color=f"C{number}", label=f"{curve.name}: slope {curve.slope():.2f}")
        at = slice(1 if curve.gain else None)
        middle = np.exp(np.log(y[at]).mean() - curve.wanted * np.log(x[at]).mean())
        label = f"slope {curve.wanted:g}" if number == len(panel) - 1 else None
        axis.plot(x, middle * x**curve.wanted, "--", color="grey", linewidth=1, label=label)
    axis.set_title(panel[0].question, fontsize=9)
    axis.set_xlabel(panel[0].across, fontsize=8)
    axis.set_ylabel(panel[0].unit, fontsize=8)
    axis.set_xticks(list(panel[0].points), [f"{at:,g}" for at in panel[0].points])
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.minorticks_off()
    widen(axis)
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.tick_params(labelsize=7)
    axis.grid(visible=True, linewidth=0.3)
    axis.legend(fontsize=7)


def widen(axis: Any) -> None:
    """Make the y axis span at least what `LEAST_SPAN` says."""
    low, high = axis.get_ylim()
    if high / low < LEAST_SPAN:
        middle, half = (low * high) ** 0.5, LEAST_SPAN**0.5
        axis.set_ylim(middle / half, middle * half)


def curve_of(row: dict[str, Any]) -> Curve:
    """A curve from what `bench_scaling.py --json` has written."""
    question, _, rest = row["name"].partition("? ")
    name, _, across = rest.partition(", ")
    points = {float(at): float(value) for at, value in row["ours"]}
    return Curve(f"{question}?", name, across, row["unit"], row["goal"], points, row["gain"])


def main() -> None:
    """Draw the curves of a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", type=Path, nargs="?")
    parser.add_argument("figure", type=Path, nargs="?")
    parser.add_argument("--smoke", action="store_true", help="draw a curve that is made up")
    given = parser.parse_args()
    if given.smoke:
        with tempfile.TemporaryDirectory() as folder:
            draw(Path(folder, "figure.png"), [Curve("How?", "so", "n", "ms", 1, {1: 1.0, 10: 9.0})], "made up")
        return
    if given.curves is None or given.figure is None:
        parser.error("CURVES.json and FIGURE.png are needed")
    rows = json.loads(given.curves.read_text())
    draw(given.figure, [curve_of(row) for row in rows], rows[0]["device"])


if __name__ == "__main__":
    main()
