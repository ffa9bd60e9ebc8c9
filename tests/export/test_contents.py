"""What travels with the weights in every format."""

from jcl.export.contents import contents
from jcl.training.seen_scans import SEEN
from support.thresholds import make_recipe_of


def test_what_a_network_has_seen_goes_with_it():
    """Else nobody would be told elsewhere that a scan is unlike all that it learned from."""
    seen = dict(zip(SEEN, ({"pixels": [1.0, 1.0]}, {"within": 0.0}, ["CT"], {"below": 0.3}), strict=True))
    recipe = make_recipe_of({1: "liver"}, window=(-160.0, 240.0))
    info = {"kind": "finetune", "backbone": {}, "recipe": recipe, "class_names": ["liver"], "versions": {}, **seen}
    found = contents(info)
    assert {key: found[key] for key in SEEN} == seen
    assert found["recipe"]["window"] == [-160.0, 240.0]
