"""Defaults of methods from before they were recorded."""

import pytest

from jcl import methods
from jcl.methods._earlier import earlier


@pytest.mark.parametrize(
    ("settings", "had"),
    [
        ({"method": "simclr"}, {"learning_rate": 0.01}),
        ({"method": "desd", "learning_rate": None}, {"learning_rate": 0.02}),
        ({"method": "mae", "learning_rate": 0.5}, {"learning_rate": 0.5}),
        ({"method": "swav"}, {"learning_rate": 0.01, "temperature": 0.1}),
        ({"method": "swav", "method_settings": {"temperature": 0.2}}, {"learning_rate": 0.01, "temperature": 0.2}),
    ],
)
def test_what_a_run_had(settings, had):
    found = earlier(methods.load(settings["method"]), settings)
    assert {key: found[key] for key in had} == had


@pytest.mark.parametrize("name", ["jcl", "pcl", "moco", "byol"])
def test_methods_that_were_not_changed(name):
    """Runs of these go on as they are."""
    kind = methods.load(name)
    today = {each.name: each.default for each in methods.settings(kind)}
    assert earlier(kind, {"method": name}) == {"learning_rate": kind.learning_rate, **today}


def test_nothing_is_known_of_a_method_of_ones_own():
    assert earlier(methods.load("pcl"), {"method": "mine:Method"}) == {}
