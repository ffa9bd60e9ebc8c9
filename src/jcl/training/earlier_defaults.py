"""Defaults of methods from before `run.json` recorded them and some were tuned: a run that goes on keeps its own."""

from collections.abc import Mapping
from typing import Any

__all__ = ["earlier_method"]

RATE = 0.01

RATES = {"desd": 0.02, "mae": 0.1}
"""Of the methods that had another."""

SETTINGS: Mapping[str, Mapping[str, Any]] = {"swav": {"temperature": 0.1}}


def earlier_method(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `method` in `run.json` would have said of what has changed since, by the settings of that run."""
    name, rate = str(settings["method"]), settings.get("learning_rate")
    if ":" in name:  # one of the user's own
        return {}
    given = settings.get("method_settings") or {}
    kept = {key: given.get(key, value) for key, value in SETTINGS.get(name, {}).items()}
    return {"learning_rate": RATES.get(name, RATE) if rate is None else rate, **kept}
