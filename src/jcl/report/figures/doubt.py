"""Charts of how much scores can be believed, from what `jcl evaluate` records of them (SVG)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jcl.inference.calibration import BINS, rank_correlation
from jcl.report.figures.chart import INK, bare_axes, new_figure, to_svg
from jcl.report.figures.linestyles import End, label_ends, row_styles
from jcl.report.stats.results import Cell, Grid
from jcl.report.stats.scores import mean_over_classes

__all__ = ["dice_against_doubt", "reliability"]


def dice_against_doubt(grid: Grid) -> str | None:
    """Mean Dice of each test case over its doubt, in the colour of the row, and the rank correlation of each row."""
    figure = new_figure(8.6, 4.6)
    axes = figure.add_axes((0.08, 0.14, 0.62, 0.82))
    bare_axes(axes)
    styles, lines = row_styles(grid), list[tuple[str, str]]()
    for row in grid.rows:
        pairs = _pairs([cell for column in grid.columns for cell in grid.cells[row, column.name]])
        if pairs:
            doubts, dice = zip(*pairs, strict=True)
            axes.plot(doubts, dice, "o", ms=3.5, alpha=0.55, mew=0, color=styles[row].colour)
            found = rank_correlation(pairs)
            lines.append((row if found is None else f"{row}: ρ = {found:.2f}", styles[row].colour))
    if not lines:
        return None
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1)
    axes.set_xlabel("doubt of the case", color=INK, fontsize=10)
    axes.set_ylabel("Dice", color=INK, fontsize=10)
    for number, (text, colour) in enumerate(lines):
        figure.text(0.72, 0.9 - 0.055 * number, f"● {text}", color=colour, fontsize=9)
    return to_svg(figure, f"{grid.title}: Dice over doubt of the test cases")


def _pairs(cells: Sequence[Cell]) -> list[tuple[float, float]]:
    cases = [case for cell in cells for case in cell.cases if case.get("doubt") is not None]
    found = [(float(case["doubt"]), mean_over_classes(case, "dice")) for case in cases]
    return [(doubt, dice) for doubt, dice in found if dice is not None]


def reliability(grid: Grid) -> str | None:
    """Share of voxels that are right over the score of the class that won, a line a row."""
    figure = new_figure(8.6, 4.6)
    axes = figure.add_axes((0.08, 0.14, 0.55, 0.82))
    bare_axes(axes)
    axes.plot([0, 1], [0, 1], ls=":", lw=1.2, color=INK, alpha=0.6)
    styles, ends = row_styles(grid), list[End]()
    for row in grid.rows:
        summed = _summed([cell for column in grid.columns for cell in grid.cells[row, column.name]])
        if summed is not None:
            style = styles[row]
            axes.plot(summed.confidence, summed.accuracy, lw=style.width, ls=style.dashes, color=style.colour)
            ends.append((f"{row}: ECE {summed.error:.3f}", summed.confidence[-1], summed.accuracy[-1], style))
    if not ends:
        return None
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("score of the class that won", color=INK, fontsize=10)
    axes.set_ylabel("share that is right", color=INK, fontsize=10)
    label_ends(axes, ends)
    return to_svg(figure, f"{grid.title}: share of voxels that are right over their score")


@dataclass(frozen=True)
class _Reliability:
    """Means of the bins that have voxels, and the expected calibration error of all."""

    confidence: list[float]
    accuracy: list[float]
    error: float


def _summed(cells: Sequence[Cell]) -> _Reliability | None:
    """All runs of a row together, a voxel counted as often as it was tested."""
    bins: list[Sequence[Mapping[str, Any]]] = [cell.calibration["bins"] for cell in cells if cell.calibration]
    points: list[tuple[int, float, float]] = []
    for number in range(BINS if bins else 0):
        some = [each[number] for each in bins if each[number]["voxels"]]
        voxels = sum(int(each["voxels"]) for each in some)
        if voxels:
            confidence = sum(float(each["voxels"] * each["confidence"]) for each in some)
            accuracy = sum(float(each["voxels"] * each["accuracy"]) for each in some)
            points.append((voxels, confidence / voxels, accuracy / voxels))
    if not points:
        return None
    error = sum(voxels * abs(mean - share) for voxels, mean, share in points)
    total = sum(voxels for voxels, _, _ in points)
    return _Reliability([mean for _, mean, _ in points], [share for _, _, share in points], error / total)
