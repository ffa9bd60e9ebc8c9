"""Whole cases as pictures for a viewer that scrolls through their slices."""

from typing import Any

from jcl.report.grid import Benchmark, Grid

__all__ = ["viewer_data"]


def viewer_data(benchmark: Benchmark, grid: Grid, *, column: str | None = None) -> dict[str, Any]:
    """Images, truth and predictions of few cases, ready for JSON; `cases` is empty where nothing is done.

    {"table": name, "title": text, "rule": how the cases were chosen, "column": name or None,
     "classes": [{"name": text, "colour": "#rrggbb"}],
     "cases": [{"case", "patient", "column": text, "fold", "seed": int, "slices": d, "first": the slice to begin with,
                "height", "width": h and w of a slice in pixels, "aspect": height of a pixel over its width, in mm,
                "columns": slices beside each other in a sprite (slice i is at row i // columns, column i % columns),
                "image": PNG as data URI (grey), "truth": PNG as data URI,
                "predictions": [{"row": name, "status": text, "dice": number or None, "labels": data URI or None}]}]}

    Sprites of labels are indexed PNGs: value 0 is transparent, value k + 1 has the colour of class k; they can be laid over
    that of the image as they are.

    Args:
        benchmark: where store and models are.
        grid: the table.
        column: whose models segment; None: the first with results.

    Raises:
        DataError: the store, or a model of a finished task, cannot be read.
    """
    raise NotImplementedError
