"""Whole cases as pictures for a viewer that scrolls through their slices."""

import math
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jcl.benchmark.folder import RUN
from jcl.data.store import Store
from jcl.errors import DataError, UsageError
from jcl.report.figures.case_selection import ChosenCase, first_with_scores, median_case, ordered_cases, reference_row
from jcl.report.figures.overlay import extent, rgb, windowed
from jcl.report.figures.png import data_uri, grey_png, indexed_png
from jcl.report.figures.segment_again import segment_slices
from jcl.report.figures.tiles import class_colours
from jcl.report.stats.results import Benchmark, Cell, Grid
from jcl.report.stats.scores import mean_of_cases

__all__ = ["viewer_data"]


def viewer_data(benchmark: Benchmark, grid: Grid, *, column: str | None = None) -> dict[str, Any]:
    """Images, truth and predictions of two cases, ready for JSON; `cases` is empty where nothing is done.

    {"table": name, "title": text, "rule": how the cases were chosen, "column": name or None,
     "classes": [{"name": text, "colour": "#rrggbb"}],
     "cases": [{"case", "patient", "column": text, "fold", "seed": int, "slices": d, "first": the slice to begin with,
                "height", "width": h and w of a slice in pixels, "aspect": height of a pixel over its width, in mm,
                "columns": slices beside each other in a sprite (slice i is at row i // columns, column i % columns),
                "image": PNG as data URI (grey), "truth": PNG as data URI,
                "predictions": [{"row": name, "status": text, "dice": number or None, "labels": data URI or None}]}]}

    Sprites of labels are indexed PNGs: value 0 is transparent, value k + 1 has the colour of class k; they can be laid
    over that of the image as they are.

    Args:
        benchmark: where store and models are.
        grid: the table.
        column: whose models segment; None: the first in which the reference row has scores.

    Raises:
        DataError: the store cannot be read. A model that cannot be is a prediction's status.
    """
    reference = reference_row(grid)
    column = column or first_with_scores(grid, reference)
    cells = grid.cells[reference, column] if column else ()
    with closing(Store.open(benchmark.store_path(grid.store))) as store:
        classes = class_colours(store.class_names)
        palette = [(0, 0, 0), *(rgb(colour) for _, colour in classes)]
        cases = [_case(store, grid, column, chosen, palette) for chosen in _chosen(cells) if column]
    return {
        "table": grid.name,
        "title": grid.title,
        "rule": f"The test cases with the median and the lowest Dice of {reference} in this column, over all its "
        "finished folds and seeds; all rows are of that fold and seed.",
        "column": column,
        "classes": [{"name": name, "colour": colour} for name, colour in classes],
        "cases": cases,
    }


def _chosen(cells: Sequence[Cell]) -> list[ChosenCase]:
    """Lowest and median case, once if they are the same."""
    median = median_case(cells)
    if median is None:
        return []
    lowest = ordered_cases(cells)[0]
    return [median] if lowest == median else [median, lowest]


def _case(
    store: Store, grid: Grid, column: str, chosen: ChosenCase, palette: list[tuple[int, int, int]]
) -> dict[str, Any]:
    case = next((number for number, record in enumerate(store.cases) if record.case == chosen.case), None)
    if case is None:
        raise DataError(f"{store.path}: has no case {chosen.case}, which the benchmark tested")
    record = store.cases[case]
    inside = store.content(case)
    image = windowed(np.stack([store.image(case, number)[0, *inside] for number in range(record.slices)]))
    truth = np.stack([store.label(case, number, ignored_as=0)[inside] for number in range(record.slices)])
    height, width = extent(record)
    across = math.ceil(math.sqrt(record.slices))
    return {
        "case": record.case,
        "patient": record.patient,
        "column": column,
        "fold": chosen.cell.fold,
        "seed": chosen.cell.seed,
        "slices": record.slices,
        "first": int(truth.astype(bool).sum(axis=(1, 2)).argmax()),
        "height": record.shape[0],
        "width": record.shape[1],
        "aspect": height / record.shape[0] / (width / record.shape[1]),
        "columns": across,
        "image": data_uri(grey_png(_sprite(np.rint(image * 63).astype(np.uint8) * 4, across))),
        "truth": _labels(truth, across, palette),
        "predictions": [
            _prediction(store, case, row, cell, across, palette)
            for row in grid.rows
            for cell in grid.cells[row, column]
            if (cell.fold, cell.seed) == (chosen.cell.fold, chosen.cell.seed)
        ],
    }


def _prediction(
    store: Store, case: int, row: str, cell: Cell, across: int, palette: list[tuple[int, int, int]]
) -> dict[str, Any]:
    record = store.cases[case]
    found: dict[str, Any] = {"row": row, "status": cell.status, "dice": None, "labels": None}
    if cell.cases:
        try:
            numbers = [(case, n) for n in range(record.slices)]
            labels = np.stack(segment_slices(cell.folder / RUN, store, numbers, trust_code=cell.trust_code))
        except (DataError, UsageError) as error:
            return {**found, "status": f"no model ({error})"}
        found |= {"dice": mean_of_cases(cell, "dice").get(record.case), "labels": _labels(labels, across, palette)}
    return found


def _labels(labels: UInt8[np.ndarray, "d h w"], across: int, palette: list[tuple[int, int, int]]) -> str:
    return data_uri(indexed_png(_sprite(labels, across), palette, clear=True))


def _sprite(slices: UInt8[np.ndarray, "d h w"], across: int) -> UInt8[np.ndarray, "H W"]:
    """All slices in rows of `across`; places that are left over are 0."""
    count, height, width = slices.shape
    down = math.ceil(count / across)
    padded = np.zeros((down * across, height, width), np.uint8)
    padded[:count] = slices
    return padded.reshape(down, across, height, width).swapaxes(1, 2).reshape(down * height, across * width)
