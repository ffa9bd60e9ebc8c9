"""What is suggested to be labelled next, and why; as JSON and as a sheet."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jcl.data.origins import SliceOrigin
from jcl.text import csv_cell

__all__ = ["SuggestedCase", "SuggestedSlice", "Suggestion", "Suggestions"]

COLUMNS = (
    *("rank", "patient", "case", "covers", "typicality", "distance", "doubt", "case_doubt", "slice", "slice_doubt"),
    *("file", "axis", "index", "left_mm", "back_mm", "head_mm"),
)


@dataclass(frozen=True)
class SuggestedSlice:
    """A slice.

    Attributes:
        slice: its number in the store, from 0.
        doubt: mean over the slice; None of a pre-training.
        origin: its number and place in the scan's own files, where these are known.
    """

    slice: int
    doubt: float | None
    origin: SliceOrigin | None


@dataclass(frozen=True)
class SuggestedCase:
    """A scan of a suggested patient: how many slices it has, and which say most."""

    case: str
    slices: int
    doubt: float | None
    chosen: tuple[SuggestedSlice, ...]


@dataclass(frozen=True)
class Suggestion:
    """A patient to label.

    Attributes:
        covers: candidates who are nearer to this one than to any other suggested or labelled patient, with this one.
        typicality: share of the candidates whose nearest neighbours are farther from them; 1: the most typical.
        distance: to the nearest suggested or labelled patient, in mean distances of two patients; None without one.
        doubt: of the run, mean over the cases, 1 of one in which it finds nothing; None of a pre-training.
    """

    rank: int
    patient: str
    covers: int
    typicality: float
    distance: float | None
    doubt: float | None
    cases: tuple[SuggestedCase, ...]


@dataclass(frozen=True)
class Suggestions:
    """All of it.

    Attributes:
        store, runs: their names.
        candidates, held_back, trained, labelled: how many patients there are of each (`jcl.training.candidates`).
    """

    store: str
    runs: tuple[str, ...]
    candidates: int
    held_back: int
    trained: int
    labelled: int
    suggestions: tuple[Suggestion, ...]

    @property
    def patients(self) -> list[str]:
        """Those to label, the first first."""
        return [each.patient for each in self.suggestions]

    def as_mapping(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    def as_sheet(self) -> str:
        """As CSV: a row for each slice. What a spreadsheet would take for a formula begins with an apostrophe."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in (row for each in self.suggestions for case in each.cases for row in _rows(each, case)):
            writer.writerow([csv_cell(value) for value in row])
        return file.getvalue()


def _rows(of: Suggestion, case: SuggestedCase) -> list[Sequence[str | int | float | None]]:
    why = (of.rank, of.patient, case.case, of.covers, of.typicality, of.distance, of.doubt, case.doubt)
    return [(*why, each.slice, each.doubt, *_place(each.origin)) for each in case.chosen]


def _place(origin: SliceOrigin | None) -> Sequence[str | int | float | None]:
    if origin is None:
        return (None,) * 6
    return (origin.file, origin.axis, origin.index, *(round(value, 3) for value in origin.centre))
