"""Defaults of methods from before `run.json` recorded them and some were tuned: a run that goes on keeps its own."""

from collections.abc import Mapping
from typing import Any

from jcl.methods._base import Method
from jcl.methods._settings import settings

__all__ = ["earlier"]

RATE = 0.01

RATES = {"desd": 0.02, "mae": 0.1}
"""Of the methods that had another."""

SETTINGS: Mapping[str, Mapping[str, Any]] = {"swav": {"temperature": 0.1}}


def earlier(method: type[Method], given: Mapping[str, Any]) -> dict[str, Any]:
    """What `method` in `run.json` would have said, by the settings of that run.

    Args:
        method: the class that the run names.
        given: `settings` in `run.json`.
    """
    name, rate = str(given.get("method")), given.get("learning_rate")
    if ":" in name:  # one of the user's own
        return {}
    today = {each.name: each.default for each in settings(method)}
    kept = {**today, **SETTINGS.get(name, {}), **(given.get("method_settings") or {})}
    return {"learning_rate": RATES.get(name, RATE) if rate is None else rate, **kept}
