"""Segmentations side by side, as the JCL paper's figures 3 to 6, of cases that a rule chooses."""

from contextlib import closing
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from jcl.benchmark.folder import RUN
from jcl.data.manifest import IGNORE
from jcl.data.store import Store
from jcl.errors import DataError, UsageError
from jcl.metrics import score_case
from jcl.report.figures.case_selection import ChosenCase, first_with_scores, median_case, ordered_cases, reference_row
from jcl.report.figures.overlay import extent, scaled_size, windowed
from jcl.report.figures.segment_again import segment_slices
from jcl.report.figures.tiles import class_colours, slice_tile
from jcl.report.stats.results import Benchmark, Cell, Grid
from jcl.report.stats.scores import mean_of_cases, mean_over_classes

__all__ = ["Extreme", "Extremes", "PanelRow", "Panels", "Tile", "extreme_cases", "segmentation_panels"]

SIDE = 144
"""Longer side of a picture in pixels."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One picture: `png` is None where there is none, and `note` says why (`missing`, `failed`, …) or is empty.

    `miou` is the mean IoU, from 0 to 1, over the foreground classes that the shown slice has in truth or
    prediction; None for the image and the truth themselves, and where neither has any. `dice` is the whole case's, as
    evaluated.
    """

    title: str
    png: bytes | None
    alt: str
    miou: float | None = None
    dice: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class PanelRow:
    """A slice of a case: the image, each method, the ground truth, in this order."""

    column: str
    case: str
    fold: int
    seed: int
    slice: int
    slices: int
    note: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, kw_only=True)
class Panels:
    """`rule` says how the cases were chosen and what is printed; `legend` are (class, colour); rows may be none."""

    rule: str
    legend: tuple[tuple[str, str], ...]
    titles: tuple[str, ...]
    rows: tuple[PanelRow, ...]


@dataclass(frozen=True, kw_only=True)
class Extreme:
    """Worst and best case of a method; None where nothing of it is done."""

    row: str
    worst: PanelRow | None
    best: PanelRow | None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Extremes:
    """Of each method, at `column`. Each `PanelRow` has one tile: the prediction in colour, the truth as white line."""

    rule: str
    legend: tuple[tuple[str, str], ...]
    column: str | None
    methods: tuple[Extreme, ...]


def segmentation_panels(benchmark: Benchmark, grid: Grid) -> Panels:
    """A slice for each column of a table, segmented by each of its rows with the models that are kept.

    Raises:
        DataError: the store cannot be read. A model that cannot be is a note in its tile.
    """
    reference = reference_row(grid)
    rows: list[PanelRow] = []
    with closing(Store.open(benchmark.store_path(grid.store))) as store:
        for column in grid.columns:
            chosen = median_case(grid.cells[reference, column.name])
            if chosen is not None:
                rows.append(_panel_row(store, grid, column.name, chosen, reference))
        legend = class_colours(store.class_names)
    return Panels(
        rule=(
            f"For each column the test case with the median Dice of {reference} (the lower of two) over all its "
            "finished folds and seeds, and of it the slice with the most labelled pixels. All rows are of that fold "
            "and seed. mIoU: mean over the foreground classes that the slice has in truth or prediction. Dice: of the "
            "whole case."
        ),
        legend=legend,
        titles=("image", *grid.rows, "ground truth"),
        rows=tuple(rows),
    )


def extreme_cases(benchmark: Benchmark, grid: Grid, *, column: str | None = None) -> Extremes:
    """Worst and best case of each row, by the case's Dice, at a column (None: the first that has results).

    Raises:
        DataError: the store cannot be read. A model that cannot be is a note in its tile.
    """
    column = column or first_with_scores(grid)
    methods: list[Extreme] = []
    with closing(Store.open(benchmark.store_path(grid.store))) as store:
        for row in grid.rows:
            ordered = ordered_cases(grid.cells[row, column]) if column else []
            if not column or not ordered:
                methods.append(Extreme(row=row, worst=None, best=None, note=_lack(grid, row, column)))
                continue
            worst, best = (_extreme(store, row, column, chosen) for chosen in (ordered[0], ordered[-1]))
            methods.append(Extreme(row=row, worst=worst, best=best))
        legend = class_colours(store.class_names)
    return Extremes(
        rule=(
            "For each row the test cases with the lowest and the highest Dice over all its finished folds and seeds, "
            "and of each the slice with the most labelled pixels. In colour the prediction, in white the outline of "
            "the truth. mIoU is the slice's, Dice the case's."
        ),
        legend=legend,
        column=column,
        methods=tuple(methods),
    )


def _panel_row(store: Store, grid: Grid, column: str, chosen: ChosenCase, reference: str) -> PanelRow:
    place = _Slice.of(store, chosen.case)
    tiles = [Tile(title="image", png=place.picture(), alt=f"{place.said}: image")]
    for row in grid.rows:
        found = [c for c in grid.cells[row, column] if (c.fold, c.seed) == (chosen.cell.fold, chosen.cell.seed)]
        tiles.append(_tile(place, row, found[0]))
    truth = place.picture(labels=place.truth)
    tiles.append(Tile(title="ground truth", png=truth, alt=f"{place.said}: ground truth"))
    note = f"{reference}: median case, Dice {chosen.dice:.4f}"
    return place.row(column, chosen, note, tuple(tiles))


def _extreme(store: Store, row: str, column: str, chosen: ChosenCase) -> PanelRow:
    place = _Slice.of(store, chosen.case)
    return place.row(column, chosen, f"Dice {chosen.dice:.4f}", (_tile(place, row, chosen.cell, outlined=True),))


def _tile(place: "_Slice", row: str, cell: Cell, *, outlined: bool = False) -> Tile:
    """What a cell's model makes of a slice."""
    if not cell.cases:
        return Tile(title=row, png=None, alt=f"{row}: {cell.status}", note=cell.status)
    try:
        (labels,) = segment_slices(
            cell.folder / RUN, place.store, [(place.case, place.number)], trust_code=cell.trust_code
        )
    except (DataError, UsageError) as error:
        return Tile(title=row, png=None, alt=f"{row}: no model", note=f"no model ({error})")
    spacing = place.store.cases[place.case].spacing[1:]
    ignored = place.store.label(place.case, place.number)[place.store.content(place.case)] == IGNORE
    scores = score_case(
        labels,
        place.truth,
        classes=place.store.class_names,
        spacing=spacing,
        ignored=ignored if place.store.ignores else None,
    )
    return Tile(
        title=row,
        png=place.picture(labels=labels, truth=place.truth if outlined else None),
        alt=f"{place.said}: segmented by {row}",
        miou=mean_over_classes({"classes": scores}, "jaccard"),
        dice=mean_of_cases(cell, "dice").get(place.store.cases[place.case].case),
        note="" if cell.status == "done" else cell.status,
    )


def _lack(grid: Grid, row: str, column: str | None) -> str:
    """Why a row has nothing to show."""
    cells = grid.cells[row, column] if column else [c for each in grid.columns for c in grid.cells[row, each.name]]
    return ", ".join(dict.fromkeys(cell.status for cell in cells))


@dataclass(frozen=True)
class _Slice:
    """A slice of a store: its number, image from 0 to 1, and truth."""

    store: Store
    case: int
    number: int
    image: Float[np.ndarray, "h w"]
    truth: UInt8[np.ndarray, "h w"]

    @classmethod
    def of(cls, store: Store, name: str) -> "_Slice":
        """The slice of that case with the most labelled pixels, the first of several."""
        case = next((n for n, record in enumerate(store.cases) if record.case == name), None)
        if case is None:
            raise DataError(f"{store.path}: has no case {name}, which the benchmark tested")
        inside, numbers = store.content(case), range(store.cases[case].slices)
        labels = [store.label(case, number, ignored_as=0)[inside] for number in numbers]
        number = int(np.argmax([np.count_nonzero(each) for each in labels]))
        image = store.image(case, number)[0, *inside]
        return cls(store, case, number, windowed(image), labels[number])

    @property
    def said(self) -> str:
        return f"{self.store.cases[self.case].case}, slice {self.number + 1}"

    def picture(
        self, labels: UInt8[np.ndarray, "h w"] | None = None, truth: UInt8[np.ndarray, "h w"] | None = None
    ) -> bytes:
        size = scaled_size(extent(self.store.cases[self.case]), (SIDE, SIDE))
        return slice_tile(self.image, size, labels, truth)

    def row(self, column: str, chosen: ChosenCase, note: str, tiles: tuple[Tile, ...]) -> PanelRow:
        return PanelRow(
            column=column, case=chosen.case, fold=chosen.cell.fold, seed=chosen.cell.seed, slice=self.number,
            slices=self.store.cases[self.case].slices, note=note, tiles=tiles,
        )  # fmt: skip
