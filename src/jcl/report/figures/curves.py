"""Charts of a benchmark as SVG: Dice over labelled patients, losses over steps, Dice over minutes.

Every chart is one `<svg>` element to be put into a page as it is: no width or height but a `viewBox`, so it takes
the width it is given; text is text; neutral ink is `currentColor`; identifiers are unique among charts. A chart of
what is not there yet says so in words.
"""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jcl.benchmark.folder import RUN
from jcl.metrics import bootstrap_interval
from jcl.report.figures.chart import INK, bare_axes, new_figure, to_svg, words
from jcl.report.figures.linestyles import End, LineStyle, draw_mark, label_ends, row_styles
from jcl.report.stats.results import Cell, Grid, Pretraining
from jcl.report.stats.scores import mean_over_classes
from jcl.report.stats.summary import CellSummary, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["cost_against_dice", "label_efficiency", "loss_curves"]

NAMES = {"dice": "Dice", "jaccard": "Jaccard", "hd95": "HD95 (mm)", "asd": "ASD (mm)"}

CURVES = {"loss": "loss", "feature_std": "feature spread", "alignment": "alignment"}
"""What is drawn of a log, and its name in the chart."""

STORE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b565c9")
ACROSS = 6
"""Small charts beside each other."""


def label_efficiency(grid: Grid, summary: Summary) -> str:
    """Mean of the summary's metric over the number of labelled patients, a line per row, with intervals (SVG).

    Columns that stand for no number of patients are places of equal distance. A mark is hollow where runs are missing,
    failed or of other code. Rows are moved sideways a little, so that their intervals can be seen apart.
    """
    label = f"{grid.title}: {NAMES[summary.metric]} over labelled patients"
    if not any(cell.runs for cell in summary.cells.values()):
        return words(label, "No cell of this table has scores yet.")
    figure = new_figure(8.6, 5.0)
    axes = figure.add_axes((0.08, 0.2, 0.7, 0.77))
    bare_axes(axes)
    places, ticks, unit = _places(grid)
    gap = min(np.diff(sorted(places)), default=1.0)
    styles = row_styles(grid)
    titles: dict[str, str] = {}
    ends: list[End] = []
    for number, row in enumerate(grid.rows):
        shift = (number - (len(grid.rows) - 1) / 2) * 0.5 * gap / max(len(grid.rows), 4)
        points = [
            _Point(f"line{number}-{place:.3f}", f"{row}, {column.name}", place + shift, cell.mean, cell)
            for place, column in zip(places, grid.columns, strict=True)
            if (cell := summary.cells[row, column.name]).mean is not None
        ]
        _draw_line(axes, points, styles[row])
        titles |= {point.key: f"{point.label}: {_said(point.cell)}" for point in points}
        ends += [(row, point.x, point.y, styles[row]) for point in points[-1:]]
    axes.set_xticks(places, ticks)
    axes.set_xlim(min(places, default=0) - 0.4 * gap, max(places, default=1) + 0.4 * gap)
    axes.set_xlabel(unit, color=INK, fontsize=10)
    axes.set_ylabel(NAMES[summary.metric] + ", lower is better" * summary.lower_is_better, color=INK, fontsize=10)
    label_ends(axes, ends)
    bars = "Bars: 95 % bootstrap interval of the mean; patients, folds and seeds drawn."
    _write_notes(figure, [bars, _gaps(grid, summary)])
    return to_svg(figure, label, titles)


@dataclass(frozen=True)
class _Point:
    key: str
    label: str
    x: float
    y: float
    cell: CellSummary


def _places(grid: Grid) -> tuple[list[float], list[str], str]:
    """Where columns are (on a logarithmic scale where they are numbers of patients), their ticks, and the label."""
    counts = [column.patients for column in grid.columns if column.patients]
    if len(set(counts)) == len(grid.columns):
        return [math.log2(count) for count in counts], [str(count) for count in counts], "labelled patients"
    return [float(number) for number in range(len(grid.columns))], [column.name for column in grid.columns], ""


def _draw_line(axes: "Axes", points: Sequence[_Point], style: LineStyle) -> None:
    """Line, intervals and marks of a row."""
    look: dict[str, Any] = {"color": style.colour, "zorder": style.order}
    axes.plot([p.x for p in points], [p.y for p in points], lw=style.width, ls=style.dashes, **look)
    for point in points:
        if point.cell.interval is not None:
            axes.plot([point.x] * 2, point.cell.interval, lw=0.7 * style.width, alpha=0.75, **look)
        draw_mark(axes, point.x, point.y, style, point.key, hollow=not point.cell.complete)


def _said(cell: CellSummary) -> str:
    interval = f" ({cell.interval[0]:.4f} to {cell.interval[1]:.4f})" if cell.interval else ""
    return f"{cell.mean:.4f}{interval}, {len(cell.runs)} of {cell.runs_expected} runs"


def _gaps(grid: Grid, summary: Summary) -> str:
    """How many runs each column has, and that hollow marks are of fewer than all."""
    cells = {column.name: [summary.cells[row, column.name] for row in grid.rows] for column in grid.columns}
    every = [cell for column in cells.values() for cell in column]
    if all(cell.complete for cell in every):
        folds = sorted({cell.folds_expected for cell in every})
        return f"All runs are done; folds: {', '.join(map(str, folds))}."
    done = [
        f"{name} {sum(len(c.runs) for c in column)} of {sum(c.runs_expected for c in column)}"
        for name, column in cells.items()
    ]
    return f"Unfinished. Runs with scores: {', '.join(done)}. Hollow: not all runs of the cell, so other test cases."


def _write_notes(figure: "Figure", notes: Sequence[str]) -> None:
    inches = figure.get_size_inches()[1]
    for number, note in enumerate(notes):
        figure.text(0.08, (0.29 - 0.18 * number) / inches, note, color=INK, alpha=0.75, fontsize=8.5)


def cost_against_dice(grid: Grid, summary: Summary, pretrainings: Sequence[Pretraining]) -> str:
    """Minutes of pre-training and one fine-tuning against the mean over the columns, a mark a row (SVG).

    Mean and interval are over the folds of which a row has the same runs in every column, so that no column counts
    more. Minutes are the clock's, of the last attempt of each task, and depend on what else the machine did.
    """
    label = f"{grid.title}: {NAMES[summary.metric]} over minutes"
    costs = {row: cost for row in grid.rows if (cost := _cost(grid, row, summary, pretrainings)) is not None}
    if not costs:
        return words(label, "No row has scores in all columns of a fold yet.")
    figure = new_figure(8.6, 4.6)
    axes = figure.add_axes((0.08, 0.22, 0.7, 0.75))
    bare_axes(axes)
    styles = row_styles(grid)
    titles: dict[str, str] = {}
    for number, (row, cost) in enumerate(costs.items()):
        style, key = styles[row], f"cost{number}"
        if cost.interval is not None:
            axes.plot([cost.minutes] * 2, cost.interval, color=style.colour, lw=0.7 * style.width, alpha=0.75)
        draw_mark(axes, cost.minutes, cost.mean, style, key, hollow=cost.folds < cost.folds_expected)
        titles[key] = f"{row}: {cost.mean:.4f}, {cost.minutes:.2f} minutes, {cost.folds} of {cost.folds_expected} folds"
    axes.set_xlim(left=0)
    axes.set_xlabel("minutes of pre-training and one fine-tuning", color=INK, fontsize=10)
    axes.set_ylabel(f"{NAMES[summary.metric]}, mean over columns", color=INK, fontsize=10)
    label_ends(axes, [(row, cost.minutes, cost.mean, styles[row]) for row, cost in costs.items()])
    notes = [
        "Bars: 95 % bootstrap interval, patients drawn. Hollow: not all folds. Minutes by the clock, last attempt."
    ]
    if without := [row for row in grid.rows if row not in costs]:
        notes.append(f"Without scores in all columns of a fold: {', '.join(without)}.")
    _write_notes(figure, notes)
    return to_svg(figure, label, titles)


@dataclass(frozen=True)
class _Cost:
    minutes: float
    mean: float
    interval: tuple[float, float] | None
    folds: int
    folds_expected: int


def _cost(grid: Grid, row: str, summary: Summary, pretrainings: Sequence[Pretraining]) -> _Cost | None:
    """None for a row without a fold that all columns have, or without a record of its minutes."""
    places = [(row, column.name) for column in grid.columns]
    runs = [summary.cells[place].runs for place in places]
    expected = {cell.fold for place in places for cell in grid.cells[place]}
    folds = [
        f
        for f in sorted(expected)
        if len(same := {frozenset(r for r in each if r[0] == f) for each in runs}) == 1 and any(same)
    ]
    means = [summary.cells[place].folds.get(fold) for place in places for fold in folds]
    chosen = [cell for place in places for cell in grid.cells[place] if cell.fold in folds and cell.cases]
    starts = {cell.start for cell in chosen} - {None}
    before = [p.seconds for p in pretrainings if p.task in starts and p.seconds is not None]
    tuning = [cell.seconds for cell in chosen if cell.seconds is not None]
    counted = [mean for mean in means if mean is not None]
    if not counted or not tuning or (starts and not before):
        return None
    return _Cost(
        minutes=(statistics.fmean(tuning) + (statistics.fmean(before) if before else 0)) / 60,
        mean=statistics.fmean(counted),
        interval=_interval(chosen, summary.metric),
        folds=len(folds),
        folds_expected=len(expected),
    )


def _interval(cells: Sequence[Cell], metric: str) -> tuple[float, float] | None:
    values: list[float] = []
    patients: list[str] = []
    for case in (case for cell in cells for case in cell.cases):
        value = mean_over_classes(case, metric)
        if value is not None:
            values.append(value)
            patients.append(str(case["patient"]))
    bounds = bootstrap_interval(np.array(values, dtype=float), patients)
    return (bounds[0], bounds[1]) if bounds else None


def loss_curves(pretrainings: Sequence[Pretraining]) -> str:
    """Loss, `feature_std` and `alignment` over the steps, a small chart for each row of the tables (SVG).

    A line for each pre-training, in the colour of its stores; several folds are lines of one colour. The loss of each
    method has a scale of its own; the other two have one for all. Pre-trainings that left no log are named below.
    """
    rows = list(dict.fromkeys(row for each in pretrainings for row in each.rows))
    sources = list(dict.fromkeys(each.pretrain_on for each in pretrainings))
    logs = {each.task: _read_log(each) for each in pretrainings}
    blocks = max(1, math.ceil(len(rows) / ACROSS))
    height = 0.75 + 3.55 * blocks
    figure = new_figure(10.5, height)
    for number, row in enumerate(rows):
        block, column = divmod(number, ACROSS)
        served = [(sources.index(each.pretrain_on), logs[each.task]) for each in pretrainings if row in each.rows]
        top = 1 - (0.3 + 3.55 * block) / height
        for place, key in enumerate(CURVES):
            axes = figure.add_axes((0.065 + 0.157 * column, top - (0.95 + 1.02 * place) / height, 0.125, 0.85 / height))
            _draw_curve(axes, key, served)
            axes.tick_params(labelbottom=place == len(CURVES) - 1, labelleft=key == "loss" or column == 0)
            if place == 0:
                axes.set_title(row, color=INK, fontsize=9.5, loc="left", pad=4)
            if column == 0:
                axes.set_ylabel(CURVES[key], color=INK, fontsize=9)
    _write_sources(figure, sources, height)
    return to_svg(figure, "Loss, feature spread and alignment over the steps of each pre-training")


def _read_log(pretraining: Pretraining) -> list[dict[str, float]]:
    """Lines of the log; none where there is no log, and up to a line that was cut short."""
    try:
        text = (pretraining.folder / RUN / "log.jsonl").read_text(encoding="utf-8")
    except OSError:
        return []
    lines: list[dict[str, float]] = []
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except (ValueError, RecursionError):
            break
    return lines


def _draw_curve(axes: "Axes", key: str, served: Sequence[tuple[int, list[dict[str, float]]]]) -> None:
    bare_axes(axes)
    axes.tick_params(labelsize=7.5)
    if not any(lines for _, lines in served):
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no log yet", color=INK, alpha=0.6, fontsize=8, ha="center", transform=axes.transAxes)
        return
    for source, lines in served:
        known = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
        axes.plot(
            [s for s, _ in known], [v for _, v in known], lw=1.0, color=STORE_COLOURS[source % len(STORE_COLOURS)]
        )
    axes.locator_params(nbins=3)
    if key != "loss":
        axes.set_ylim(-0.05, 1.1)
        axes.set_yticks([0, 0.5, 1])


def _write_sources(figure: "Figure", sources: Sequence[tuple[str, ...]], height: float) -> None:
    """A legend of the stores, below."""
    for number, source in enumerate(sources):
        colour = STORE_COLOURS[number % len(STORE_COLOURS)]
        figure.text(0.065 + 0.2 * number, 0.12 / height, f"— {' + '.join(source)}", color=colour, fontsize=9)
    figure.text(0.985, 0.12 / height, "steps", color=INK, fontsize=9, ha="right")
