"""Segmentations side by side, as the JCL paper's figures 3 to 6, of cases that a rule chooses."""

from dataclasses import dataclass

from jcl.report.grid import Benchmark, Grid

__all__ = ["Extreme", "Extremes", "PanelRow", "Panels", "Tile", "extreme_cases", "segmentation_panels"]


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
        DataError: the store, or a model of a finished task, cannot be read.
    """
    raise NotImplementedError


def extreme_cases(benchmark: Benchmark, grid: Grid, *, column: str | None = None) -> Extremes:
    """Worst and best case of each row, by the case's Dice, at a column (None: the first that has results).

    Raises:
        DataError: the store, or a model of a finished task, cannot be read.
    """
    raise NotImplementedError
