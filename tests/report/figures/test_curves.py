"""Charts: every mark where the scores are, intervals as long as they are, and words where there is nothing."""

import dataclasses
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from jcl.report.figures.chart import INK
from jcl.report.figures.curves import cost_against_dice, label_efficiency, loss_curves
from jcl.report.stats.resampling import resampled_interval
from jcl.report.stats.results import Cell, Grid, Pretraining
from jcl.report.stats.scores import run_scores
from jcl.report.stats.summary import summarise_grid
from support import grids

SVG = "{http://www.w3.org/2000/svg}"
ROWS = ("Random", "SimCLR", "MoCo", "BYOL", "SwAV", "SimSiam", "SimTriplet", "GCL", "PCL", "JCL")
COUNTS = (6, 10, 20)
FOLDS = 3


def make_cell(row: int, column: int, fold: int, *, done: bool = True) -> Cell:
    random = np.random.default_rng([row, column, fold])
    scores = (0.3 + 0.1 * column + 0.02 * row + random.normal(0, 0.1, (4, 2))).clip(0, 1)
    cases = [grids.case(f"p{fold}{number}", *map(float, pair)) for number, pair in enumerate(scores)]
    start = f"pre{row}" if row else None
    made = grids.cell(fold, cases if done else (), task=f"{row}-{column}-{fold}", start=start)
    return dataclasses.replace(made, seconds=30.0 + 6 * row) if done else made


def make_grid(missing: tuple[tuple[int, int, int], ...] = ()) -> Grid:
    return grids.grid({
        (row, f"M={count}"): [make_cell(r, c, f, done=(r, c, f) not in missing) for f in range(FOLDS)]
        for r, row in enumerate(ROWS)
        for c, count in enumerate(COUNTS)
    })  # fmt: skip


def case_means(cells: tuple[Cell, ...]) -> tuple[list[float], list[str]]:
    values = [np.mean([s["dice"] for s in case["classes"].values()]) for cell in cells for case in cell.cases]
    return values, [case["patient"] for cell in cells for case in cell.cases]


def marks(svg: str) -> dict[str, tuple[float, float, str]]:
    """Title -> place and fill of each mark."""
    found = {}
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        if group.get("class") == "mark":
            (use,) = group.iter(f"{SVG}use")
            fill = re.search(r"fill: ([^;]+)", use.get("style", ""))
            hollow = "fill-opacity: 0" in use.get("style", "")
            title = group.find(f"{SVG}title").text
            found[title] = (float(use.get("x")), float(use.get("y")), "none" if hollow else fill[1])
    return found


def upright_lines(svg: str) -> dict[float, tuple[float, float]]:
    """Lowest and highest place of the vertical lines between two points, by their place from the left."""
    found = {}
    for path in ET.fromstring(svg).iter(f"{SVG}path"):
        numbers = [float(n) for n in re.findall(r"-?[\d.]+", path.get("d", ""))]
        if len(numbers) == 4 and numbers[0] == numbers[2] and "stroke-opacity: 0.75" in path.get("style", ""):
            found[numbers[0]] = (max(numbers[1::2]), min(numbers[1::2]))
    return found


def heights(svg: str) -> np.poly1d:
    """From places in the chart to values, by the numbers at the left axis."""
    ticks = [
        (float(text.get("y")), text.text)
        for text in ET.fromstring(svg).iter(f"{SVG}text")
        if "text-anchor: end" in text.get("style", "") and re.fullmatch(r"[\d.]+", text.text or "")
    ]
    places, values = zip(*ticks, strict=True)
    slope = np.polyfit(places, [float(v) for v in values], 1)[0]
    return np.poly1d([slope, 0])


def texts(svg: str) -> str:
    return " | ".join(text.text or "" for text in ET.fromstring(svg).iter(f"{SVG}text"))


def test_marks_and_intervals_lie_where_the_scores_are():
    grid = make_grid()
    svg = label_efficiency(grid, summarise_grid(grid))
    found, lines, scale = marks(svg), upright_lines(svg), heights(svg)
    assert len(found) == len(ROWS) * len(COUNTS)
    expected, places, lows, highs = [], [], [], []
    for title, (x, y, _) in found.items():
        row, column = re.match(r"(.+), (M=\d+):", title).groups()
        values, _ = case_means(grid.cells[row, column])
        expected.append(np.mean(values))  # folds are of equal size
        low, high = resampled_interval(run_scores(grid.cells[row, column], "dice"))
        places.append(y)
        lows.append(scale(lines[x][0] - y) - (low - expected[-1]))
        highs.append(scale(lines[x][1] - y) - (high - expected[-1]))
        assert f"{expected[-1]:.4f} ({low:.4f} to {high:.4f}), 3 of 3 runs" in title
    # columns are at the logarithm of their patients
    x = [next(x for title, (x, _, _) in found.items() if title.startswith(f"JCL, M={count}:")) for count in COUNTS]
    assert (x[1] - x[0]) / (x[2] - x[0]) == pytest.approx(np.log(10 / 6) / np.log(20 / 6), abs=1e-4)
    labels = [float(text.get("y")) for text in ET.fromstring(svg).iter(f"{SVG}text") if text.text in ROWS]
    assert len(labels) == len(ROWS)
    assert np.diff(sorted(labels)).min() > 12  # the letters are 9.5 high
    assert max(labels) < float(ET.fromstring(svg).get("viewBox").split()[3])
    # the axis' numbers and the marks have one scale: a point of the chart is less than 0.002
    np.testing.assert_allclose(scale(np.array(places) - places[0]), np.array(expected) - expected[0], atol=1e-5)
    np.testing.assert_allclose([lows, highs], 0, atol=1e-5)


def test_what_is_unfinished_is_hollow_and_counted_and_an_empty_table_says_so():
    grid = make_grid(missing=((9, 2, 1), (3, 0, 0), (3, 0, 1), (3, 0, 2)))
    svg = label_efficiency(grid, summarise_grid(grid))
    hollow = {title.split(":")[0] for title, (_, _, fill) in marks(svg).items() if fill == "none"}
    assert hollow == {"JCL, M=20"}
    assert not any(title.startswith("BYOL, M=6:") for title in marks(svg))
    assert "M=6 27 of 30, M=10 30 of 30, M=20 29 of 30" in texts(svg)
    empty = grids.one_column({"JCL": [grids.cell(0)], "Random": [grids.cell(0)]})
    summary = summarise_grid(empty)
    assert "No cell of this table has scores yet." in texts(label_efficiency(empty, summary))
    assert "No row has scores in all columns" in texts(cost_against_dice(empty, summary, ()))


def test_charts_live_in_a_page():
    grid = make_grid()
    summary = summarise_grid(grid)
    two = [label_efficiency(grid, summary), cost_against_dice(grid, summary, ())]
    ids = []
    for svg in two:
        root = ET.fromstring(svg)
        assert root.tag == f"{SVG}svg"
        assert root.get("viewBox")
        assert {"width", "height"}.isdisjoint(root.attrib)
        assert root.get("aria-label").startswith(grid.title)
        assert "currentColor" in svg
        assert INK not in svg
        ids += [element.get("id") for element in root.iter() if element.get("id")]
        used = re.findall(r'(?:href="#|url\(#)([^")]+)', svg)
        assert set(used) <= set(ids)
    assert len(ids) == len(set(ids))
    assert two[0] == label_efficiency(grid, summary)  # the same table, the same text


def test_minutes_are_those_of_the_pretraining_and_a_finetuning():
    grid = make_grid(missing=((4, 1, 2), (5, 0, 0), (5, 1, 1), (5, 2, 2)))
    pretrainings = [
        Pretraining(
            task=f"pre{r}", label=row, rows=(row,), pretrain_on=("s",), folder=Path(), status="done", seconds=60.0 * r
        )
        for r, row in enumerate(ROWS[1:], start=1)
    ]
    svg = cost_against_dice(grid, summarise_grid(grid), pretrainings)
    found = {title.split(":")[0]: (x, y, fill, title) for title, (x, y, fill) in marks(svg).items()}
    minutes = {row: (60.0 * r + 30 + 6 * r) / 60 for r, row in enumerate(ROWS)}
    assert set(found) == set(ROWS) - {"SimSiam"}  # it has no fold in all columns
    assert "Without scores in all columns of a fold: SimSiam." in texts(svg)
    x = np.array([found[row][0] for row in found])
    wanted = np.array([minutes[row] for row in found])
    np.testing.assert_allclose(np.polyval(np.polyfit(x, wanted, 1), x), wanted, atol=1e-5)
    scale = heights(svg)
    for row, (_, y, fill, title) in found.items():
        folds = (0, 1) if row == "SwAV" else (0, 1, 2)
        cells = tuple(cell for c in COUNTS for cell in grid.cells[row, f"M={c}"] if cell.fold in folds)
        mean = np.mean(case_means(cells)[0])
        assert f"{mean:.4f}, {minutes[row]:.2f} minutes, {len(folds)} of 3 folds" in title
        assert (fill == "none") == (row == "SwAV")
        if row == "JCL":
            reference = (y, mean)
    for row in ("Random", "PCL"):
        mean = np.mean([np.mean(case_means(grid.cells[row, f"M={count}"])[0]) for count in COUNTS])
        assert scale(found[row][1] - reference[0]) == pytest.approx(mean - reference[1], abs=1e-5)


def test_losses_are_drawn_as_logged(tmp_path):
    values = [3.0, 2.0, 2.5, 1.0]
    for name, kept in (("JCL", 4), ("GCL", 2)):
        (tmp_path / name / "run").mkdir(parents=True)
        lines = [
            json.dumps({"step": 10 * (n + 1), "loss": v, "feature_std": 0.5, "alignment": None})
            for n, v in enumerate(values[:kept])
        ]
        (tmp_path / name / "run" / "log.jsonl").write_text("\n".join(lines) + '\n{"step": 5')
    pretrainings = [
        Pretraining(task=n, label=n, rows=(n,), pretrain_on=("s",), folder=tmp_path / n, status="done")
        for n in ("JCL", "GCL", "never begun")
    ]
    svg = loss_curves(pretrainings)
    assert texts(svg).count("no log yet") == 3
    assert {"JCL", "GCL", "never begun"} <= set(texts(svg).split(" | "))
    curves = [
        np.reshape([float(n) for n in re.findall(r"-?[\d.]+", path.get("d"))], (-1, 2))
        for path in ET.fromstring(svg).iter(f"{SVG}path")
        if "stroke: #0072b2" in path.get("style", "") and path.get("d").count("L") > 1
    ]
    loss = curves[0]
    np.testing.assert_allclose(np.diff(loss[:, 0]), np.diff(loss[:, 0])[0], atol=1e-4)
    slope = (loss[3, 1] - loss[0, 1]) / (values[3] - values[0])
    assert slope < 0  # up in the chart
    np.testing.assert_allclose(loss[:, 1] - loss[0, 1], slope * (np.array(values) - values[0]), atol=1e-4)
