"""The rows of the tables, and the settings in which they differ."""

from collections.abc import Mapping
from typing import Any

from jcl.report.page.scores import OURS
from jcl.report.page.table import Cell, Head, Row, Table

__all__ = ["method_table"]


def method_table(methods: Mapping[str, Mapping[str, Any]]) -> Table:
    """Each row of the tables with its method and what is set otherwise than for the others."""
    rows = [Row(name, _cells(settings), ours=name == OURS) for name, settings in methods.items()]
    heads = (Head("Row"), Head("Method", words=True), Head("Settings of its own", words=True))
    return Table(title="Methods", heads=heads, rows=tuple(rows))


def _cells(settings: Mapping[str, Any]) -> tuple[Cell, ...]:
    name = "random weights" if settings["method"] == "none" else str(settings["method"])
    own = {key: settings[key] for key in ("backbone", "width") if settings.get(key) is not None}
    own |= settings.get("method_settings") or {}
    for stage in ("pretrain", "finetune"):
        own |= {f"{stage} {key}": value for key, value in (settings.get(stage) or {}).items()}
    said = ", ".join(f"{key} = {value}" for key, value in own.items())
    return Cell(text=name, words=True), Cell(text=said or "–", words=True)
