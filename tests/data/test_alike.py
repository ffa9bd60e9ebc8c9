"""Whether two preparations give a voxel the same size and meaning."""

from typing import Any

import pytest

from jcl.data.alike import difference
from jcl.data.datasets import DatasetSpec
from jcl.data.preparation import make_preparation


def preparation(**spec: Any) -> dict[str, Any]:
    return make_preparation(DatasetSpec(**{"name": "x", "spacing": 1.0, **spec}), {1: "a"}, size_given=False)


@pytest.mark.parametrize("spec", [{}, {"size": 512}, {"name": "y"}, {"licence": "CC0"}, {"ignore": 9}])
def test_what_leaves_a_voxel_as_it_is(spec: dict[str, Any]) -> None:
    """Padding is no part of what a voxel shows."""
    assert difference(preparation(), preparation(**spec)) is None


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"spacing": 1.5}, "spacing 1.0, not 1.5"),
        ({"spacing": None}, "spacing 1.0, not none"),
        ({"spacing_through": 3.0}, "spacing_through none, not 3.0"),
        ({"spacing": None, "fit": True, "size": 64}, "spacing 1.0, not none"),
        ({"normalisation": "zscore"}, "normalisation minmax, not zscore"),
        ({"clip": (0.0, 100.0)}, "clip 1 99, not 0 100"),
        ({"window": (-160.0, 240.0)}, "window none, not -160 240"),
    ],
)
def test_what_changes_a_voxel(spec: dict[str, Any], said: str) -> None:
    assert difference(preparation(), preparation(**spec)) == said


def test_with_a_window_percentiles_do_not_count() -> None:
    windows = [preparation(window=(0.0, 80.0), clip=clip) for clip in ((1.0, 99.0), (0.0, 100.0))]
    assert difference(*windows) is None
