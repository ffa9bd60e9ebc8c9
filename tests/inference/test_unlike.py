"""Scans whose pixels or slices are unlike those that a network learned from."""

import warnings
from pathlib import Path

import pytest

from jcl.data.geometry import Geometry
from jcl.data.notes import DataNote
from jcl.inference.unlike import FACTOR, note_unlike

SEEN = {"pixels": [1.0, 1.5], "slices": [5.0, 8.0]}


def notes(pixel: float, through: float = 5.0, *, seen: object = SEEN, **recipe: object) -> list[str]:
    geometry = Geometry(
        (9, 9, 9), (pixel, pixel, through), (0.0,) * 3, (1.0, 0, 0, 0, 1, 0, 0, 0, 1), ".nii", (0, 1, 2), (False,) * 3
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataNote)
        note_unlike(Path("a.nii.gz"), geometry, [{"recipe": recipe, "seen_mm": seen}])
    return [str(each.message) for each in caught]


@pytest.mark.parametrize("pixel", [1.01 / FACTOR, 1.0, 1.5, 1.49 * FACTOR])
def test_what_augmentation_has_shown_is_not_noted(pixel: float) -> None:
    assert notes(pixel) == []


@pytest.mark.parametrize("pixel", [0.1, 0.99 / FACTOR, 1.51 * FACTOR, 10.0])
def test_pixels_of_another_scale(pixel: float) -> None:
    (line,) = notes(pixel)
    assert line.startswith(f"a.nii.gz: its pixels are {pixel:.3g} mm apart, those trained on 1 to 1.5 mm, ")
    assert line.endswith("train on a store prepared with --spacing")


def test_slices_count_where_several_are_seen_at_a_time() -> None:
    assert notes(1.0, 1.0) == []
    for seen in ({"context": 1}, {"block": [8, 32, 32]}):
        (line,) = notes(1.0, 1.0, **seen)
        assert line.startswith("a.nii.gz: its slices are 1 mm apart, those trained on 5 to 8 mm, ")
        assert line.endswith("--spacing-through")


@pytest.mark.parametrize("seen", [None, {}, [], "1", {"pixels": None}, {"pixels": [1]}, {"pixels": ["1", "2"]}])
def test_records_that_say_nothing_are_let_pass(seen: object) -> None:
    """Earlier versions recorded none, and a folder of others for the hub may have anything."""
    assert notes(100.0, 100.0, seen=seen, context=1) == []
