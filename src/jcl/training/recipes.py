"""The two ways to fine-tune: what each of them sets where the user sets nothing."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jcl.config import FinetuneConfig, defaults

__all__ = ["RECIPES", "before_recipes", "filled", "settle"]

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
        },
    }
)
"""`paper` is that of the JCL paper (section 4.1); `strong` follows nnU-Net's, in little, less what showed no gain."""


def settle(config: FinetuneConfig, recorded: Mapping[str, Any] | None) -> FinetuneConfig:
    """The settings with those filled in that follow from the recipe.

    Args:
        config: as the user gave them.
        recorded: `run.json` of the run that goes on, whose recipe holds unless another is given.
    """
    recipe = config.recipe
    if recipe is None and recorded is not None:
        recipe = recorded.get("settings", {}).get("recipe", "paper")
    return dataclasses.replace(config, **filled({**vars(config), "recipe": recipe}))


def filled(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a fine-tuning, by their names, with the recipe's where they are None."""
    recipe = settings["recipe"] or DEFAULT
    missing = {name: value for name, value in RECIPES[recipe].items() if settings[name] is None}
    return {**settings, "recipe": recipe, **missing}


def before_recipes() -> dict[str, Any]:
    """The settings that held in runs of before there were recipes, which did not record them."""
    return {**defaults(FinetuneConfig), "recipe": "paper", **RECIPES["paper"], "context": 0}
