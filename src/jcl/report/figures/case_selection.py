"""Rules that choose the cases to be shown, so that nobody picks them."""

from collections.abc import Sequence
from dataclasses import dataclass

from jcl.report.stats.results import OURS, Cell, Grid
from jcl.report.stats.scores import mean_of_cases

__all__ = ["ChosenCase", "first_with_scores", "median_case", "ordered_cases", "reference_row"]


@dataclass(frozen=True)
class ChosenCase:
    """A test case of a cell, and its Dice, the mean over its counted classes."""

    case: str
    cell: Cell
    dice: float


def reference_row(grid: Grid) -> str:
    """The row whose cases are shown: ours, or the last where a table has no row of that name."""
    return OURS if OURS in grid.rows else grid.rows[-1]


def first_with_scores(grid: Grid, row: str | None = None) -> str | None:
    """The first column in which a row has scores (None: any row)."""
    rows = grid.rows if row is None else (row,)
    return next((c.name for c in grid.columns if any(cell.cases for r in rows for cell in grid.cells[r, c.name])), None)


def ordered_cases(cells: Sequence[Cell]) -> list[ChosenCase]:
    """Test cases of all folds and seeds by their Dice, lowest first; equal ones by fold, seed and name."""
    found = [ChosenCase(case, cell, dice) for cell in cells for case, dice in mean_of_cases(cell, "dice").items()]
    return sorted(found, key=lambda each: (each.dice, each.cell.fold, each.cell.seed, each.case))


def median_case(cells: Sequence[Cell]) -> ChosenCase | None:
    """The case in the middle of that order, the lower of two; None without scores."""
    found = ordered_cases(cells)
    return found[(len(found) - 1) // 2] if found else None
