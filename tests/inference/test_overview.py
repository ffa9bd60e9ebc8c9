"""Pictures of results: which slices, what is drawn, and names of all kinds."""

import io

import matplotlib.image
import numpy as np
import pytest

from jcl.inference.overview import COLOURS, choose_slices, draw_overview


def ball(depth: int = 20, side: int = 30) -> np.ndarray:
    z, y, x = np.mgrid[:depth, :side, :side]
    classes = (((z - 12) * 1.5) ** 2 + (y - 14) ** 2 + (x - 14) ** 2 < 81).astype(np.uint8)
    classes[4:7, 20:24, 3:9] = 2
    classes[5, 18:26, 3:9] = 2
    return classes


def test_slices_are_the_middle_and_where_structures_are_largest():
    chosen = choose_slices(ball())
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 6
    assert {12, 5} <= set(chosen)
    used = np.flatnonzero(ball().any((1, 2)))
    assert (used[0] + used[-1]) // 2 in chosen
    assert used[0] <= min(chosen)
    assert max(chosen) <= used[-1]


@pytest.mark.parametrize(("depth", "count"), [(1, 1), (3, 3), (40, 6)])
def test_a_scan_without_structures_is_shown_too(depth: int, count: int):
    chosen = choose_slices(np.zeros((depth, 4, 4), np.uint8))
    assert len(chosen) <= count
    assert all(0 <= number < depth for number in chosen)


@pytest.mark.parametrize("names", [("A", "B"), ("_hidden", "$\\frac{"), ("left\natrium", "=1\u202e")])
def test_outlines_have_the_colours_of_their_structures(names):
    image = np.random.default_rng(0).normal(100, 10, ball().shape).astype(np.float32)
    content = draw_overview(image, ball(), (5.0, 1.0, 1.5), names, ["1.0 ml", "2.0 ml"], f"case {names[0]}")
    pixels = matplotlib.image.imread(io.BytesIO(content))[..., :3]
    for colour in COLOURS[:2]:
        wanted = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
        assert (np.abs(pixels - wanted).max(axis=2) < 0.02).sum() > 50
    other = np.array([int(COLOURS[2][at : at + 2], 16) for at in (1, 3, 5)]) / 255
    assert not (np.abs(pixels - other).max(axis=2) < 0.02).any()


def test_an_image_of_one_value():
    content = draw_overview(
        np.zeros((1, 5, 6), np.float32), np.zeros((1, 5, 6), np.uint8), (1, 1, 1), ["A"], ["0"], "x"
    )
    assert content[1:4] == b"PNG"
