"""Labels over images, and slices as small pictures."""

import io

import numpy as np
import pytest
from PIL import Image

from jcl.report.figures.overlay import FILL, outline, resampling, resize_labels, rgb, windowed
from jcl.report.figures.pictures import COLOURS
from jcl.report.figures.png import grey_png, indexed_png
from jcl.report.figures.tiles import GREYS, slice_tile


def decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_shrinking_averages_and_growing_interpolates():
    """Each pixel counts the same where a picture shrinks by a whole factor; a ramp stays a ramp where it grows."""
    shrunk = resampling(8, 32)
    assert shrunk.sum(axis=1) == pytest.approx(1)
    assert shrunk.sum(axis=0)[8:-8] == pytest.approx(0.25, abs=1e-5)
    grown = resampling(40, 10) @ np.arange(10.0)
    assert grown[2:-2] == pytest.approx(((np.arange(40) + 0.5) / 4 - 0.5)[2:-2], abs=1e-5)


def test_a_pixel_shared_alike_is_of_the_lowest_class():
    halves = resampling(1, 2)
    for labels in ([[1, 2], [1, 2]], [[2, 1], [2, 1]], [[3, 1], [1, 3]]):
        assert resize_labels(np.array(labels, np.uint8), halves, halves).tolist() == [[1]]


def test_outlines_are_pixels_beside_another_label():
    labels = np.random.default_rng(0).integers(0, 3, (9, 11)).astype(np.uint8)
    found = outline(labels)
    for row, column in np.ndindex(labels.shape):
        beside = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        inside = [labels[p] for p in beside if 0 <= p[0] < 9 and 0 <= p[1] < 11]
        assert found[row, column] == any(each != labels[row, column] for each in inside)


def test_a_window_is_from_a_low_to_a_high_percentile():
    values = np.arange(1001.0)
    assert windowed(values)[[0, 5, 500, 995, 1000]] == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-9)


def test_a_tile_shows_image_labels_and_truth():
    image = np.tile(np.linspace(0, 1, 30), (20, 1))
    labels, truth = (np.zeros((20, 30), np.uint8) for _ in range(2))
    labels[4:14, 5:20], truth[6:18, 22:28] = 2, 1
    picture = decoded(slice_tile(image, (20, 30), labels, truth))
    step = 255 / (GREYS - 1)
    plain = picture[0]
    assert (plain == plain[:, :1]).all()  # grey
    np.testing.assert_allclose(plain[:, 0], 255 * image[0], atol=step / 2 + 1)
    colour = np.array(rgb(COLOURS[1]))
    np.testing.assert_allclose(picture[4, 5:20], np.tile(colour, (15, 1)))
    inner = 255 * image[8, 8:15, None] * (1 - FILL) + colour * FILL
    np.testing.assert_allclose(picture[8, 8:15], inner, atol=step)
    assert (picture[6, 22:28] == 255).all()
    inner = picture[8, 23:27]
    assert (inner == inner[:, :1]).all()  # the truth is an outline only


def test_many_classes_still_fit_a_palette():
    labels = np.repeat(np.arange(14, dtype=np.uint8), 20).reshape(14, 20)
    picture = decoded(slice_tile(np.zeros((14, 20)), (140, 200), labels))
    for k in range(1, 11):
        assert tuple(picture[10 * k, 100]) == rgb(COLOURS[k - 1])
    assert tuple(picture[110, 100]) == rgb(COLOURS[0])  # colours begin anew


def test_pngs_hold_what_was_given():
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9)).astype(np.uint8)
    assert (np.asarray(Image.open(io.BytesIO(grey_png(pixels)))) == pixels).all()
    palette = [(1, 2, 3), (250, 0, 0), (0, 250, 0)]
    image = Image.open(io.BytesIO(indexed_png(pixels % 3, palette, clear=True)))
    assert image.mode == "P"
    full = np.asarray(image.convert("RGBA"))
    assert (full[..., :3][pixels % 3 > 0] == np.array(palette)[pixels % 3][pixels % 3 > 0]).all()
    assert ((full[..., 3] == 0) == (pixels % 3 == 0)).all()
