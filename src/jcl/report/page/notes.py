"""What the cells of a table lack: a letter in the cell, and a note below the table."""

from collections.abc import Collection, Mapping, Sequence

from jcl.report.page.table import Note
from jcl.report.stats.numbers import ranges
from jcl.report.stats.results import Cell, Grid
from jcl.text import printable

__all__ = ["STATUS_TEXTS", "Marks", "mark_cells"]

STATUS_TEXTS = {
    "missing": "not run yet",
    "failed": "failed",
    "blocked": "not begun, since the pre-training failed",
    "other code": "of other code than the benchmark's last run",
}
"""What a status means; in the order in which a cell without scores is called after them."""


class Marks:
    """Letters for what cells lack: cells that lack the same have the same letter."""

    def __init__(self, places: Mapping[tuple[str, str], str]) -> None:
        texts = list(dict.fromkeys(text for text in places.values() if text))
        self.of = {place: _letter(texts.index(text)) if text else "" for place, text in places.items()}
        self.notes = tuple(Note(_letter(number), text) for number, text in enumerate(texts))
        self.texts = {note.mark: note.text for note in self.notes}


def mark_cells(grid: Grid) -> Marks:
    """What each cell of a table lacks."""
    return Marks({place: _lack(runs) for place, runs in grid.cells.items()})


def _lack(runs: Sequence[Cell]) -> str:
    """What keeps a cell from being complete, as "fold 3 failed: out of memory"; nothing if nothing does."""
    parts: list[str] = []
    for status, said in STATUS_TEXTS.items():
        lacking = {(run.fold, run.seed) for run in runs if run.status == status}
        parts += [f"{_which(lacking, runs)} {said}"] * bool(lacking)
    errors = dict.fromkeys(printable(run.error) for run in runs if run.error)
    return "; ".join(parts) + (f": {' / '.join(errors)}" if errors else "")


def _which(lacking: Collection[tuple[int, int]], runs: Sequence[Cell]) -> str:
    """Folds, and seeds where not all of a fold are meant: "folds 1, 2 (seeds 1, 2), fold 3"."""
    if len(lacking) == len(runs):
        return "all folds" if len({run.fold for run in runs}) > 1 else "all runs"
    everything = frozenset(run.seed for run in runs)
    by_seeds: dict[frozenset[int], list[int]] = {}
    for fold in sorted({fold for fold, _ in lacking}):
        by_seeds.setdefault(frozenset(seed for f, seed in lacking if f == fold), []).append(fold)
    parts: list[str] = []
    for seeds, folds in by_seeds.items():
        said = f"fold{'s' * (len(folds) > 1)} {ranges(folds)}"
        parts.append(said if seeds == everything else f"{said} (seed{'s' * (len(seeds) > 1)} {ranges(seeds)})")
    return ", ".join(parts)


def _letter(number: int) -> str:
    """The letters a to z, then aa, ab, and so on."""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters
