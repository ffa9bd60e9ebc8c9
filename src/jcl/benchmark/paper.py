"""The figures that the JCL paper publishes, to stand beside ours."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["PaperCell", "paper_caption", "paper_cell"]


@dataclass(frozen=True)
class PaperCell:
    """Mean Dice from 0 to 1, and its standard deviation over folds where it is given."""

    mean: float
    deviation: float | None = None


def paper_cell(table: str | None, row: str, column: str) -> PaperCell | None:
    """The figure of a cell; None where the paper has none."""
    entry = _tables().get(table or "", {}).get("rows", {}).get(row, {}).get(column)
    return PaperCell(entry["mean"], entry.get("std")) if entry else None


def paper_caption(table: str | None) -> str | None:
    """What a published table is of; None where there is none of that name."""
    return _tables().get(table or "", {}).get("title")


@cache
def _tables() -> dict[str, Any]:
    return json.loads(files("jcl.benchmark").joinpath("paper.json").read_text(encoding="utf-8"))
