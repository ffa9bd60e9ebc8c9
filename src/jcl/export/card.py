"""What people read beside a model: its scores, from a results file of `jcl evaluate`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from jcl.errors import DataError
from jcl.files import read_json
from jcl.text import markdown_text

__all__ = ["licence_tag", "scores_of", "table_of"]

HEADS = {"dice": "Dice", "jaccard": "Jaccard", "hd95": "HD95 (mm)", "asd": "ASD (mm)"}


def scores_of(results: Path) -> dict[str, Any]:
    """Means over the test cases, as `jcl evaluate` wrote them.

    Raises:
        DataError: missing, or not what `jcl evaluate` writes.
    """
    content: object = read_json(results)
    found = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    mean = found.get("mean")
    if not isinstance(mean, dict) or "classes" not in mean or not found.get("cases"):
        raise DataError(f"{results}: not what `jcl evaluate` writes; give its --out")
    return {"mean": mean, "cases": len(found["cases"]), "unit": found.get("unit", "case")}


def table_of(scores: Mapping[str, Any]) -> str:
    """Markdown: a row per class and their mean."""
    mean = scores["mean"]
    rows = [*mean["classes"].items(), ("mean", mean)]
    what = "slices of test volumes" if scores["unit"] == "slice" else "test volumes"
    lines = [f"Means over {scores['cases']} {what}, as `jcl evaluate` counts them.", ""]
    lines += [f"| class | {' | '.join(HEADS.values())} |", "|---" * (len(HEADS) + 1) + "|"]
    lines += [f"| {markdown_text(name)} | {' | '.join(map(_cell, _values(row)))} |" for name, row in rows]
    return "\n".join(lines)


def _values(row: Mapping[str, Any]) -> list[Any]:
    return [row.get(metric) for metric in HEADS]


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, (int, float)) else "–"


def licence_tag(licence: str) -> str:
    """As the hub names it: `CC BY-SA 4.0` is `cc-by-sa-4.0`; what it does not know is `other`."""
    tag = "-".join(licence.lower().replace("_", "-").split())
    known = ("cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc0-1.0", "apache-2.0", "mit")
    return tag if tag in known else "other"
