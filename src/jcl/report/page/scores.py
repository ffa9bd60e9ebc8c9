"""The table of a benchmark as the page shows it: mean and deviation, the best in bold, the paper's figure beside."""

from collections import Counter
from collections.abc import Mapping, Sequence

from jcl.benchmark.paper import PaperCell
from jcl.findings import printable
from jcl.report.grid import Cell as Run
from jcl.report.grid import Grid
from jcl.report.numbers import TITLES, deviation_text, mean_text
from jcl.report.page.table import NOTHING, Cell, Head, Note, Row, Table
from jcl.report.statistics import CellSummary, Summary

__all__ = ["OURS", "Marks", "mark_cells", "score_table"]

OURS = "JCL"
"""The row that is emphasised."""

SAID = {
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


def score_table(grid: Grid, summary: Summary, marks: Marks) -> Table:
    """Rows are methods, columns as in the recipe; the last is the average rank."""
    first = "ascending" if summary.lower_is_better else "descending"
    beside = bool(grid.paper) and summary.metric == "dice"
    caption = "mean ± standard deviation over folds; the best of each column in bold"
    if beside:
        caption += "; small beside, what the paper publishes"
    heads = [Head("Method"), *(Head(column.name, first, beside=beside) for column in grid.columns)]
    ranks = f"average rank over {len(summary.blocks)} pairs of column and fold of which all rows have scores"
    heads.append(Head("Rank", "ascending", ranks))
    rows = [
        Row(
            row,
            (*(_score(grid, summary, marks, (row, column.name)) for column in grid.columns), _rank(summary, row)),
            ours=row == OURS,
        )
        for row in grid.rows
    ]
    return Table(
        title=TITLES[summary.metric],
        caption=caption + (". Lower is better." if summary.lower_is_better else "."),
        heads=tuple(heads),
        rows=tuple(rows),
        marked=bool(marks.notes),
    )


def _score(grid: Grid, summary: Summary, marks: Marks, place: tuple[str, str]) -> Cell:
    metric, cell, mark = summary.metric, summary.cells[place], marks.of[place]
    paper = grid.paper.get(place) if metric == "dice" else None
    theirs = "" if paper is None else mean_text(metric, paper.mean)
    if cell.mean is None:
        status = next((status for status in SAID if status in cell.statuses and status != "other code"), "missing")
        said = marks.texts.get(mark, "")
        return Cell(
            text="no score" if cell.statuses.get("done") else status,
            theirs=theirs, mark=mark, tip=said, tone=status, state=True,
        )  # fmt: skip
    return Cell(
        text=mean_text(metric, cell.mean),
        value=cell.mean,
        deviation="" if cell.deviation is None else deviation_text(metric, cell.deviation),
        theirs=theirs,
        best=place[0] in summary.best[place[1]],
        mark=mark,
        tip=_tip(cell, summary, paper, marks.texts.get(mark, "")),
        tone="" if cell.complete else "partial",
    )


def _rank(summary: Summary, row: str) -> Cell:
    rank = summary.ranks[row]
    if rank is None:
        return NOTHING
    lowest = min(each for each in summary.ranks.values() if each is not None)
    return Cell(text=f"{rank:.1f}", value=rank, best=rank == lowest)


def _tip(cell: CellSummary, summary: Summary, paper: PaperCell | None, lack: str) -> str:
    metric = summary.metric
    said = [f"{cell.folds_done} of {cell.folds_expected} folds", f"{cell.patients} test patients"]
    if cell.interval is not None:
        low, high = (mean_text(metric, bound) for bound in cell.interval)
        said.append(f"95 % interval over patients {low} to {high}")
    if paper is not None:
        deviation = "" if paper.deviation is None else f" ± {deviation_text(metric, paper.deviation)}"
        said.append(f"the paper: {mean_text(metric, paper.mean)}{deviation}")
    return "; ".join([*said, *([lack] if lack else [])])


def _lack(runs: Sequence[Run]) -> str:
    """What keeps a cell from being complete; nothing if nothing does."""
    counts = Counter(run.status for run in runs)
    parts = [f"{counts[status]} of {len(runs)} runs {said}" for status, said in SAID.items() if counts[status]]
    errors = dict.fromkeys(printable(run.error) for run in runs if run.error)
    return "; ".join(parts) + (f": {' / '.join(errors)}" if errors else "")


def _letter(number: int) -> str:
    """The letters a to z, then aa, ab, and so on."""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters
