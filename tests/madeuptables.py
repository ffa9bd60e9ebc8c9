"""Tables with scores that are made up, for tests of the report."""

from pathlib import Path

import numpy as np

from jcl.metrics import METRICS
from jcl.report.grid import Cell, Column, Grid

ROWS = ("Random", "SimCLR", "MoCo", "BYOL", "SwAV", "SimSiam", "SimTriplet", "GCL", "PCL", "JCL")


def make_cell(row: str, column: int, fold: int, *, cases: int = 4, status: str = "done") -> Cell:
    """Cases are named by fold, so that those of two folds are of different patients; two classes."""
    random = np.random.default_rng([ROWS.index(row) if row in ROWS else 99, column, fold])
    level = 0.35 + 0.1 * column + 0.015 * (ROWS.index(row) if row in ROWS else 0)
    entries = [
        {
            "case": f"c{fold}{number}",
            "patient": f"p{fold}{number}",
            "classes": {
                name: dict.fromkeys(METRICS, float(np.clip(level + random.normal(0, 0.12), 0, 1)))
                for name in ("ventricle", "atrium")
            },
        }
        for number in range(cases)
    ]
    start = None if row == "Random" else f"pretrain-{row}"
    return Cell(
        fold=fold, seed=0, task=f"{row}-{column}-{fold}", folder=Path("nowhere"), status=status, start=start,
        seconds=30.0 + column + fold if status == "done" else None,
        cases=tuple(entries) if status == "done" else (),
    )  # fmt: skip


def make_grid(
    rows: tuple[str, ...] = ROWS,
    patients: tuple[int, ...] = (6, 10, 20),
    *,
    folds: int = 5,
    missing: frozenset[tuple[str, int, int]] = frozenset(),
) -> Grid:
    """A table; (row, number of the column, fold) in `missing` have no scores."""
    columns = tuple(Column(f"M={count}", count) for count in patients)
    cells = {
        (row, column.name): tuple(
            make_cell(row, number, fold, status="missing" if (row, number, fold) in missing else "done")
            for fold in range(folds)
        )
        for row in rows
        for number, column in enumerate(columns)
    }
    return Grid(
        name="t", title="A table", store="s", pretrain_on=("s",), rows=rows, columns=columns, cells=cells, paper={}
    )
