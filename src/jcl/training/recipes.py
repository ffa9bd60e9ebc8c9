"""The two ways to fine-tune: what each of them sets where the user sets nothing."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jcl.config import FinetuneConfig
from jcl.settings import defaults

__all__ = ["AUTO", "NO_TECHNIQUE", "RECIPES", "TECHNIQUE", "before_recipes", "filled", "settle"]

AUTO, NO_TECHNIQUE = "auto", "none"
"""As `semi`: `TECHNIQUE` where there are scans without labels; labelled slices alone."""

TECHNIQUE = "self_training"
"""The one of `jcl.semi` that gained on every set it was tried on (benchmarks/semi_trial.py; docs/semi.md)."""

DEFAULT = "strong"
"""By a trial on training patients of two sets (benchmarks/recipe_trial.py; docs/results.md)."""

RECIPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "paper": {
            "loss": "cross_entropy",
            "learning_rate": 5e-4,
            "warmup": 0.0,
            "rotation": 30.0,
            "scale": 0.3,
            "translation": 0.1,
            "elastic": 0.0,
            "intensity": 0.0,
            "foreground": 0.0,
            "average": 0.0,
            "semi": NO_TECHNIQUE,
        },
        "strong": {
            "loss": "dice_cross_entropy",
            "learning_rate": 1e-3,
            "warmup": 0.05,
            "rotation": 30.0,
            "scale": 0.3,
            "translation": 0.1,
            "elastic": 0.0,
            "intensity": 1.0,
            "foreground": 0.0,
            "average": 0.99,
            "semi": AUTO,
        },
    }
)
"""`paper` is that of the JCL paper (section 4.1); `strong` follows nnU-Net's, in little, less what showed no gain."""


def settle(config: FinetuneConfig, recorded: Mapping[str, Any] | None) -> FinetuneConfig:
    """The settings with those filled in that follow from the recipe; `semi` is a technique's name or None.

    Args:
        config: as the user gave them.
        recorded: `run.json` of the run that goes on, whose recipe and technique hold unless others are given.
    """
    recipe, semi = config.recipe, config.semi
    if recorded is not None:
        before = recorded.get("settings", {})
        recipe = recipe or before.get("recipe", "paper")
        semi = (before.get("semi") or NO_TECHNIQUE) if semi in (None, AUTO) else semi
    settings = filled({**vars(config), "recipe": recipe, "semi": semi})
    settings["semi"] = {AUTO: TECHNIQUE, NO_TECHNIQUE: None}.get(settings["semi"], settings["semi"])
    return dataclasses.replace(config, **settings)


def filled(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a fine-tuning, by their names, with the recipe's where they are None."""
    recipe = settings["recipe"] or DEFAULT
    missing = {name: value for name, value in RECIPES[recipe].items() if settings[name] is None}
    return {**settings, "recipe": recipe, **missing}


def before_recipes() -> dict[str, Any]:
    """The settings that held in runs of before there were recipes, which did not record them."""
    return {**defaults(FinetuneConfig), "recipe": "paper", **RECIPES["paper"], "semi": None, "context": 0}
