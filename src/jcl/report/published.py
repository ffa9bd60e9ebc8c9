"""What the published figures beside a table are of."""

import re

from jcl.report.grid import Grid

__all__ = ["of_other_data", "published_name"]


def published_name(grid: Grid) -> str:
    """The published table, as "table 1 (CHD, 68 patients)"."""
    number = re.match(r"table(\d+)_", grid.paper_title or "")
    name = f"table {number[1] if number else grid.paper_title}"
    return f"{name} ({grid.paper_caption})" if grid.paper_caption else name


def of_other_data(grid: Grid) -> bool:
    """Whether they are of other data than ours, as far as names tell: the store's is in no caption or column."""
    theirs = " ".join([grid.paper_caption or "", *grid.paper_columns.values()]).lower()
    return not set(re.findall(r"[a-z0-9]{3,}", grid.store.lower())) & set(re.findall(r"[a-z0-9]+", theirs))
