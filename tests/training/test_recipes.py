"""What a recipe sets, what the user sets, and which recipe holds when a run goes on."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from jcl.config import FinetuneConfig
from jcl.training.recipes import RECIPES, TECHNIQUE, before_recipes, settle


def config(**settings: Any) -> FinetuneConfig:
    return FinetuneConfig(store=Path("store"), out=Path("out"), init="none", **settings)


def test_a_recipe_leaves_nothing_open_and_strong_is_the_default() -> None:
    assert settle(config(), None) == settle(config(recipe="strong"), None)
    settled = settle(config(recipe="strong"), None)
    assert {name: getattr(settled, name) for name in RECIPES["strong"]} == {**RECIPES["strong"], "semi": TECHNIQUE}
    assert RECIPES["strong"].keys() == RECIPES["paper"].keys()
    assert settle(settled, None) == settled


def test_what_the_user_sets_holds_also_zero() -> None:
    settled = settle(config(recipe="paper", learning_rate=0.1, rotation=0.0), None)
    assert (settled.learning_rate, settled.rotation) == (0.1, 0.0)
    assert settled.loss == "cross_entropy"


@pytest.mark.parametrize(
    ("recorded", "recipe"),
    [({"settings": {"recipe": "paper"}}, "paper"), ({"settings": {"recipe": "strong"}}, "strong"), ({}, "paper")],
)
def test_a_run_goes_on_with_its_own(recorded: dict[str, Any], recipe: str) -> None:
    """Runs of before there were recipes did what `paper` does."""
    assert settle(config(), recorded).recipe == recipe
    assert settle(config(recipe="strong"), recorded).recipe == "strong"


@pytest.mark.parametrize(
    ("given", "recorded", "wanted"),
    [
        ({}, None, TECHNIQUE),
        ({"recipe": "paper"}, None, None),
        ({"recipe": "paper", "semi": "auto"}, None, TECHNIQUE),
        ({"semi": "none"}, None, None),
        ({"semi": "bcp"}, None, "bcp"),
        ({}, {"settings": {"recipe": "strong"}}, None),  # of before there were techniques
        ({}, {"settings": {"recipe": "strong", "semi": None}}, None),
        ({"semi": "auto"}, {"settings": {"recipe": "strong", "semi": None}}, None),
        ({}, {"settings": {"recipe": "strong", "semi": "bcp"}}, "bcp"),
        ({"semi": "none"}, {"settings": {"recipe": "strong", "semi": "bcp"}}, None),  # refused when they are compared
    ],
)
def test_the_technique_is_the_users_then_that_of_the_run_that_goes_on_then_the_recipes(
    given: dict[str, Any], recorded: dict[str, Any] | None, wanted: str | None
) -> None:
    assert settle(config(**given), recorded).semi == wanted


def test_the_paper_recipe_is_what_held_before() -> None:
    """Paper, section 4.1, and what version 0.1.0 recorded."""
    before = before_recipes()
    assert (before["learning_rate"], before["rotation"], before["scale"], before["translation"]) == (5e-4, 30, 0.3, 0.1)
    assert (before["loss"], before["elastic"], before["intensity"], before["average"]) == ("cross_entropy", 0, 0, 0)
    assert before.keys() <= {f.name for f in dataclasses.fields(FinetuneConfig)}
