"""Defaults of methods from before they were recorded."""

import pytest

from jcl import methods
from jcl.training.earlier_defaults import earlier_method


@pytest.mark.parametrize(
    ("settings", "had"),
    [
        ({"method": "simclr"}, {"learning_rate": 0.01}),
        ({"method": "desd", "learning_rate": None}, {"learning_rate": 0.02}),
        ({"method": "mae", "learning_rate": 0.3}, {"learning_rate": 0.3}),
        ({"method": "swav"}, {"learning_rate": 0.01, "temperature": 0.1}),
        ({"method": "swav", "method_settings": {"temperature": 0.2}}, {"learning_rate": 0.01, "temperature": 0.2}),
        ({"method": "mine:Method"}, {}),
    ],
)
def test_what_a_run_had(settings, had):
    assert earlier_method(settings) == had


@pytest.mark.parametrize("name", ["jcl", "pcl", "moco", "byol", "mae"])
def test_methods_that_were_not_changed(name):
    """Runs of these go on as they are."""
    assert earlier_method({"method": name}) == {"learning_rate": methods.load(name).learning_rate}
