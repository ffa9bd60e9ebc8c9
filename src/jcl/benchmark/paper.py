"""The figures that the JCL paper and its journal version publish, to stand beside ours."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["PaperCell", "paper_caption", "paper_cell", "paper_columns", "paper_rows", "paper_tables"]

METRICS = {"dice": "DSC", "jaccard": "JC", "hd95": "HD95", "asd": "ASD"}
"""Our names of the metrics, and those of the journal version."""

IN_PERCENT = ("DSC", "JC")


@dataclass(frozen=True)
class PaperCell:
    """Mean, and its standard deviation over folds if given; Dice and Jaccard from 0 to 1, distances as printed."""

    mean: float
    deviation: float | None = None


def paper_cell(table: str | None, row: str | Mapping[str, str], column: str, metric: str = "dice") -> PaperCell | None:
    """The figure of a cell; None where the paper has none.

    Args:
        table: name in `paper_tables()`.
        row: row of that table; or `row` and `column` in it, where the paper's columns are rows of ours.
        column: column of that table, unless `row` names one.
        metric: dice, jaccard, hd95 or asd; the paper has Dice alone, the journal version all four.
    """
    if not isinstance(row, str):
        row, column = row["row"], row.get("column", column)
    return _scores().get(table or "", {}).get((row, column), {}).get(metric)


def paper_tables() -> tuple[str, ...]:
    """Names of the tables that have scores."""
    return tuple(_scores())


def paper_rows(table: str) -> tuple[str, ...]:
    """Rows of a table, in its order."""
    return tuple(dict.fromkeys(row for row, _ in _scores()[table]))


def paper_columns(table: str) -> tuple[str, ...]:
    """Columns of a table, in its order."""
    return tuple(dict.fromkeys(column for _, column in _scores()[table]))


def paper_caption(table: str | None) -> str | None:
    """What a published table is of; None where there is none of that name."""
    return _published().get(table or "", {}).get("title")


@cache
def _scores() -> dict[str, dict[tuple[str, str], dict[str, PaperCell]]]:
    """Table -> row and column -> metric -> figure. A table without scores, that of the cost, is left out."""
    tables = {name: _paper(table) if "rows" in table else _journal(table) for name, table in _published().items()}
    return {name: cells for name, cells in tables.items() if cells}


@cache
def _published() -> dict[str, Any]:
    """The file, as it is."""
    return json.loads(files("jcl.benchmark").joinpath("paper.json").read_text(encoding="utf-8"))


def _paper(table: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, PaperCell]]:
    """Rows of columns, each with `mean` and `std` of Dice."""
    return {
        (row, column): {"dice": PaperCell(entry["mean"], entry.get("std"))}
        for row, cells in table["rows"].items()
        if isinstance(cells, dict)
        for column, entry in cells.items()
    }


def _journal(table: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, PaperCell]]:
    """Columns of rows, each with four metrics and without deviation."""
    return {
        (row, column): {ours: _unit(theirs, scores[theirs]) for ours, theirs in METRICS.items() if theirs in scores}
        for column, rows in table.items()
        if column != "title"
        for row, scores in rows.items()
    }


def _unit(metric: str, value: float) -> PaperCell:
    return PaperCell(round(value / 100, 6) if metric in IN_PERCENT else value)
