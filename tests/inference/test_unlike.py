"""Scans whose pixels, slices, plane, modality or unit are unlike those that a network learned from."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jcl.data.geometry import Geometry
from jcl.data.notes import DataNote
from jcl.data.slice_direction import TURNED
from jcl.data.sources import SliceFiles, Source
from jcl.data.volumes import Volume
from jcl.errors import DataError
from jcl.inference.unlike import FACTOR, MORE, note_unlike
from support.dicomfiles import write_series

SEEN = {"pixels": [1.0, 1.5], "slices": [5.0, 8.0]}


STRAIGHT = (1.0, 0, 0, 0, 1, 0, 0, 0, 1)


def noted(
    geometry: Geometry, *infos: dict[str, Any], source: Source = Path("a.nii.gz"), values: tuple[float, ...] = (0, 1)
) -> list[str]:
    array = np.array(values, np.float32).reshape(1, 1, 1, -1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataNote)
        note_unlike(source, Volume(array, geometry.turned_spacing, geometry), infos)
    return [str(each.message) for each in caught]


def notes(pixel: float, through: float = 5.0, *, seen: object = SEEN, **recipe: object) -> list[str]:
    geometry = Geometry((9, 9, 9), (pixel, pixel, through), (0.0,) * 3, STRAIGHT, ".nii", (0, 1, 2), (False,) * 3)
    return noted(geometry, {"recipe": recipe, "seen_mm": seen})


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


def tilted(degrees: float, *, picture: bool = False) -> Geometry:
    """Slices turned about the axis from right to left: 0 are axial, 90 coronal."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    direction = (1.0, 0, 0, 0, cos, -sin, 0, sin, cos)
    return Geometry((9, 9, 9), (1.0, 1.0, 5.0), (0.0,) * 3, direction, ".mha", (0, 1, 2), (False,) * 3, picture)


def seen_within(within: float) -> dict[str, Any]:
    return {"recipe": {}, "seen_plane": {"direction": [0.0, 0.0, 1.0], "within": within}}


@pytest.mark.parametrize("within", [0.0, 40.0])
def test_another_plane(within: float) -> None:
    limit = max(TURNED, within + MORE)
    for degrees in (0.0, limit - 1, 181.0 - limit, 180.0):
        assert noted(tilted(degrees), seen_within(within)) == []
    for degrees in (limit + 1, 90.0, 179.0 - limit):
        (line,) = noted(tilted(degrees), seen_within(within))
        assert f"those trained on axial ({90 - abs(degrees - 90):.0f} degrees apart)" in line
    assert noted(tilted(90.0), seen_within(within))[0].startswith("a.nii.gz: its slices are coronal, those trained")


def test_a_picture_states_no_plane() -> None:
    assert noted(tilted(90.0, picture=True), seen_within(0.0)) == []


def test_any_run_that_saw_another_plane_is_told_once() -> None:
    coronal = {"recipe": {}, "seen_plane": {"direction": [0.0, 1.0, 0.0], "within": 0.0}}
    assert noted(tilted(90.0), coronal) == []
    assert len(noted(tilted(90.0), coronal, seen_within(0.0), seen_within(3.0))) == 1


@pytest.mark.parametrize(
    "seen", [None, [], "1", {"direction": [0, 0, 1]}, {"direction": [0, 1], "within": 0}, {"direction": 1, "within": 0}]
)
def test_records_that_say_nothing_of_planes_are_let_pass(seen: object) -> None:
    assert noted(tilted(90.0), {"recipe": {}, "seen_plane": seen}) == []


def test_another_modality(tmp_path: Path) -> None:
    source = SliceFiles(tmp_path, tuple(write_series(tmp_path, Modality="MR")))
    for seen in (["CT"], ["CT", "US"]):
        (line,) = noted(tilted(0.0), {"recipe": {}, "seen_modalities": seen}, source=source)
        assert line.startswith(f"{tmp_path}: it is MR, those trained on {' and '.join(seen)}: ")
    for seen in (["MR"], ["CT", "MR"], [], None, "CT", [1]):
        assert noted(tilted(0.0), {"recipe": {}, "seen_modalities": seen}, source=source) == []
    assert noted(tilted(0.0), {"recipe": {}, "seen_modalities": ["CT"]}) == []


def windowed(seen: object) -> dict[str, Any]:
    return {"recipe": {"window": [-160.0, 240.0]}, "seen_outside": seen}


AIR_AND_BONE = {"below": 0.3, "above": 0.02}


def test_another_unit() -> None:
    assert noted(tilted(0.0), windowed(AIR_AND_BONE), values=(-1000, 0, 100, 900)) == []
    (line,) = noted(tilted(0.0), windowed(AIR_AND_BONE), values=(24, 100, 1064, 1900))
    assert line.startswith(
        "a.nii.gz: hardly a value lies below the window -160 to 240, where each scan trained on has "
    )
    (line,) = noted(tilted(0.0), windowed(AIR_AND_BONE), values=(0, 100))
    assert "hardly a value lies below or above the window" in line
    assert noted(tilted(0.0), windowed({"below": 0.0, "above": 0}), values=(0, 100)) == []


@pytest.mark.parametrize("seen", [None, [], "1", {"below": "1", "above": 1}, {"below": 1}])
def test_records_that_say_nothing_of_a_window_are_let_pass(seen: object) -> None:
    assert noted(tilted(0.0), windowed(seen), values=(0, 100)) == []


def test_what_lies_outside_of_a_window_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"a\.nii\.gz: its values, 3000 to 4000, all lie outside of the window -160 to 240"
    ):
        noted(tilted(0.0), {"recipe": {}}, windowed(None), values=(3000, 4000))
