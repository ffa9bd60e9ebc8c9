"""A report's page with figures that are made up, so that what it shows is known to the pixel."""

import base64
import io
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from jcl.benchmark.paper import PaperCell
from jcl.metrics import METRICS
from jcl.report.figures.draw import Drawn, PretrainingFigures, TableFigures
from jcl.report.figures.heatmaps import HeatMap, HeatMaps
from jcl.report.figures.panels import Extreme, Extremes, PanelRow, Panels, Tile
from jcl.report.page.content import Content, make_content
from jcl.report.stats.results import Benchmark, Grid
from jcl.report.stats.summary import summarise_benchmark
from support.grids import benchmark, case, cell, grid

SLICES, ACROSS, SIDE = 5, 3, 16
GREYS = tuple(40 + 30 * number for number in range(SLICES))
"""Of each slice of the viewer's first case."""

COLOUR = (0, 114, 178)
LEGEND = (("left ventricle", "#0072b2"), ("myocardium", "#d55e00"))
CHART = '<svg viewBox="0 0 4 2" role="img" aria-label="A chart"><rect width="4" height="2" fill="currentColor"/></svg>'


def png(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    if "palette" in options:
        image.putpalette(options.pop("palette"))
    image.save(file, "PNG", **options)
    return file.getvalue()


def address(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def sprite(slices: list[np.ndarray]) -> np.ndarray:
    """Slices beside each other, `ACROSS` in a row."""
    rows = -(-len(slices) // ACROSS)
    empty = np.zeros((rows * SIDE, ACROSS * SIDE), np.uint8)
    for number, each in enumerate(slices):
        row, column = divmod(number, ACROSS)
        empty[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE] = each
    return empty


def label_sprite(labelled: set[int]) -> str:
    """Slices that are class 1 all over, and others that are background."""
    slices = [np.full((SIDE, SIDE), number in labelled, np.uint8) for number in range(SLICES)]
    return address(png(sprite(slices), palette=[0, 0, 0, *COLOUR], transparency=0))


def viewer_of(name: str = "pat01") -> dict[str, Any]:
    """JCL labels slice 2, Random none; the truth is slices 2 and 3. A pixel is twice as high as wide."""
    shown = {
        "case": name, "patient": name, "column": "M=1", "fold": 0, "seed": 0, "slices": SLICES, "first": 1,
        "height": SIDE, "width": SIDE, "aspect": 2.0, "columns": ACROSS, "truth": label_sprite({2, 3}),
        "image": address(png(sprite([np.full((SIDE, SIDE), grey, np.uint8) for grey in GREYS]))),
        "predictions": [
            {"row": "Random", "status": "done", "dice": 0.25, "labels": label_sprite(set())},
            {"row": "JCL", "status": "done", "dice": 0.5, "labels": label_sprite({2})},
            {"row": "Bad", "status": "blocked", "dice": None, "labels": None},
        ],
    }  # fmt: skip
    second = {**shown, "case": f"{name}b", "first": 4, "column": "M=2", "predictions": shown["predictions"][:2]}
    classes = [{"name": title, "colour": colour} for title, colour in LEGEND]
    return {
        "table": "t1", "title": "First table", "rule": "The median case.", "column": None, "classes": classes,
        "cases": [shown, second],
    }  # fmt: skip


def figures_of(name: str = "pat01") -> TableFigures:
    picture = png(np.full((SIDE, SIDE, 3), 90, np.uint8))
    tiles = (
        Tile(title="Image", png=picture, alt=f"Slice 3 of {name}"),
        Tile(title="JCL", png=picture, alt=f"JCL on {name}", miou=0.5, dice=0.625),
        Tile(title="Bad", png=None, alt="", note="blocked"),
    )
    row = PanelRow(column="M=1", case=name, fold=0, seed=0, slice=2, slices=5, note="", tiles=tiles)
    one = PanelRow(column="M=1", case=name, fold=0, seed=0, slice=2, slices=5, note="", tiles=tiles[1:2])
    extremes = (Extreme(row="JCL", worst=one, best=one), Extreme(row="Bad", worst=None, best=None, note="blocked"))
    return TableFigures(
        efficiency={metric: Drawn(CHART) for metric in METRICS},
        costs=Drawn(None, "no training is done"),
        panels=Drawn(Panels(rule="The median case.", legend=LEGEND, titles=("Image", "JCL", "Bad"), rows=(row,))),
        extremes=Drawn(Extremes(rule="By Dice.", legend=LEGEND, column="M=1", methods=extremes)),
        viewer=Drawn(viewer_of(name)),
    )


def pretraining_figures(structure: str = "left ventricle") -> PretrainingFigures:
    picture = png(np.full((SIDE, SIDE, 3), 90, np.uint8))
    maps = (
        HeatMap(row="JCL", part="decoder", same=picture, other=picture, auc=0.875),
        HeatMap(row="MoCo", part="encoder", same=None, other=None, auc=None, note="failed"),
    )
    shown = HeatMaps(
        store="heart", rule="Cosines.", structure=structure, cases=("pat01", "pat02"), same=picture, other=picture,
        scale=picture, maps=maps,
    )  # fmt: skip
    return PretrainingFigures(losses=Drawn(CHART), heatmaps={"heart": Drawn(shown), "liver": Drawn(None, "no labels")})


def some_grid(suffix: str = "") -> Grid:
    """Random, JCL (a fold missing at M=2), MoCo and Bad (its pre-training failed), at M=1 and M=2."""

    def fold(number: int, value: float) -> Any:
        return cell(number, [case(f"pat{number}{k}{suffix}", value, value / 2) for k in range(4)])

    failed = [cell(number, status="blocked", error=f"queue is -1{suffix}") for number in range(2)]
    cells = {
        (f"Random{suffix}", "M=1"): [fold(0, 0.2), fold(1, 0.4)],
        (f"Random{suffix}", "M=2"): [fold(0, 0.3), fold(1, 0.5)],
        ("JCL", "M=1"): [fold(0, 0.8), fold(1, 0.6)],
        ("JCL", "M=2"): [fold(0, 0.9), cell(1)],
        ("MoCo", "M=1"): [fold(0, 0.5), fold(1, 0.5)],
        ("MoCo", "M=2"): [fold(0, 0.1), fold(1, 0.3)],
        ("Bad", "M=1"): failed,
        ("Bad", "M=2"): failed,
    }
    return grid(cells, paper={("JCL", "M=1"): PaperCell(0.562, 0.05)})


def content_of(read: Benchmark, figures: TableFigures | None = None, **more: Any) -> Content:
    return make_content(
        read,
        summarise_benchmark(read),
        {each.name: figures or figures_of() for each in read.tables},
        more.get("pretraining", pretraining_figures()),
        [("report.md", "tables as Markdown"), ("report.csv", "every score")],
    )


def some_content() -> Content:
    """Two tables, one of which has each kind of cell."""
    first = some_grid()
    second = replace(some_grid(), name="t2", title="Second table")
    return content_of(benchmark(first, second, notes="First paragraph\nof two lines.\n\nSecond one."))


def named_content(name: str) -> Content:
    """A table in which every name that comes from people or files is, or ends with, the one given."""
    read = benchmark(replace(some_grid(name), title=name, store=name), title=name, notes=name, recipe=name)
    return content_of(read, figures_of(name), pretraining=pretraining_figures(name))
