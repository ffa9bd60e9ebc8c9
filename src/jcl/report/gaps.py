"""What a benchmark's tables lack: counts of runs, and in words which cells, and why."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from jcl.report.grid import Benchmark, Cell, Grid, Status
from jcl.report.numbers import ranges

__all__ = ["Gap", "find_gaps", "run_counts"]

_Runs: TypeAlias = frozenset[tuple[int, int]]
"""Fold and seed of each run."""


@dataclass(frozen=True)
class Gap:
    """Runs of a table that are not done with the present code; `where` names columns, folds and seeds."""

    rows: tuple[str, ...]
    where: str
    status: Status
    error: str | None


def run_counts(benchmark: Benchmark) -> Counter[Status]:
    """How many fine-tunings stand how; one that serves several tables counts once."""
    cells = (cell for table in benchmark.tables for found in table.cells.values() for cell in found)
    return Counter({cell.task: cell.status for cell in cells}.values())


def find_gaps(grid: Grid) -> tuple[Gap, ...]:
    """All that a table lacks, rows that lack the same together."""
    gaps: dict[tuple[str, Status, str | None], list[str]] = {}
    for row in grid.rows:
        for (status, error), runs in _of_row(grid, row).items():
            gaps.setdefault((_where(grid, row, runs), status, error), []).append(row)
    return tuple(Gap(tuple(rows), *what) for what, rows in gaps.items())


def _of_row(grid: Grid, row: str) -> dict[tuple[Status, str | None], dict[str, _Runs]]:
    """Column -> runs, for each status and error that the row has."""
    found: dict[tuple[Status, str | None], dict[str, _Runs]] = {}
    for column in grid.columns:
        for cell in grid.cells[row, column.name]:
            if cell.status != "done":
                runs = found.setdefault((cell.status, cell.error), {})
                runs[column.name] = runs.get(column.name, frozenset()) | {(cell.fold, cell.seed)}
    return found


def _where(grid: Grid, row: str, runs: dict[str, _Runs]) -> str:
    """As "M=1, M=2: fold 3; M=4: all folds", columns that lack the same together."""
    words: dict[str, list[str]] = {}
    for column, lacking in runs.items():
        words.setdefault(_runs_text(lacking, grid.cells[row, column]), []).append(column)
    if len(words) == 1 and len(runs) == len(grid.columns):
        return f"all columns: {next(iter(words))}"
    return "; ".join(f"{', '.join(columns)}: {folds}" for folds, columns in words.items())


def _runs_text(lacking: _Runs, cells: Sequence[Cell]) -> str:
    if len(lacking) == len(cells):
        return "all folds" if len({cell.fold for cell in cells}) > 1 else "all runs"
    seeds = {fold: frozenset(seed for f, seed in lacking if f == fold) for fold, _ in lacking}
    everything = frozenset(cell.seed for cell in cells)
    by_seeds: dict[frozenset[int], list[int]] = {}
    for fold, lacked in sorted(seeds.items()):
        by_seeds.setdefault(lacked, []).append(fold)
    parts: list[str] = []
    for lacked, folds in by_seeds.items():
        said = f"fold{'s' * (len(folds) > 1)} {ranges(folds)}"
        parts.append(said if lacked == everything else f"{said} (seed{'s' * (len(lacked) > 1)} {ranges(lacked)})")
    return ", ".join(parts)
