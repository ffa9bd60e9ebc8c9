"""Channels of colour that say nothing, and brightness."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jcl.data.colours import brightness, plain_channels
from jcl.data.volumes import label_values, read_image
from jcl.errors import DataError

GREY = np.random.default_rng(0).integers(0, 256, (6, 8), np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)


def save(path: Path, *channels: np.ndarray) -> Path:
    Image.fromarray(np.squeeze(np.dstack(channels))).save(path)
    return path


def test_grey_that_was_saved_as_colours_is_grey(tmp_path: Path) -> None:
    """As screenshots and OpenCV save it; ultrasound sets (BUSI) have scans and masks so."""
    opaque = np.full_like(GREY, 255)
    for name, more in {"rgb": (), "rgba": (opaque,)}.items():
        path = save(tmp_path / f"{name}.png", GREY, GREY, GREY, *more)
        np.testing.assert_array_equal(read_image([path]).array[0, 0], GREY)
        assert label_values(path) == tuple(np.unique(GREY).tolist())
    path = save(tmp_path / "rgb.png", GREY, GREY, GREY)
    assert read_image([path], channels=3).array.shape == (3, 1, 6, 8)


def test_an_opaque_channel_is_none(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", COLOURS, np.full_like(GREY, 255))
    np.testing.assert_array_equal(np.moveaxis(read_image([path], channels=3).array[:, 0], 0, -1), COLOURS)


def test_what_would_be_lost_is_kept(tmp_path: Path) -> None:
    for path in (
        save(tmp_path / "a.png", GREY, GREY, COLOURS[..., 0]),
        save(tmp_path / "b.png", GREY, GREY, GREY, GREY),
    ):
        with pytest.raises(DataError, match=r"colour \([34] values per pixel"):
            read_image([path])
    assert plain_channels(np.ones((4, 1, 6, 8), np.uint8), 4).shape[0] == 4
    with pytest.raises(DataError, match="transparency among them"):
        read_image([tmp_path / "b.png"], channels=3)


def test_brightness_is_that_of_other_programs(tmp_path: Path) -> None:
    """Pillow rounds, and so differs by a half at most; what is grey already stays as it is."""
    theirs = np.asarray(Image.fromarray(COLOURS).convert("L"), float)
    ours = brightness(np.moveaxis(COLOURS, -1, 0)[:, None])[0, 0]
    np.testing.assert_allclose(ours, theirs, atol=0.5 + 1e-4)
    assert ours.dtype == np.float32
    opaque = np.full_like(GREY, 255)
    for name, channels in {"colour": (COLOURS,), "alpha": (COLOURS, opaque)}.items():
        read = read_image([save(tmp_path / f"{name}.png", *channels)], grey=True)
        np.testing.assert_array_equal(read.array, ours[None, None])
    for name, channels in {"grey": (GREY,), "grey_as_colours": (GREY,) * 3}.items():
        read = read_image([save(tmp_path / f"{name}.png", *channels)], grey=True)
        np.testing.assert_array_equal(read.array[0, 0], GREY)


def test_grey_is_asked_for_by_name(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", COLOURS)
    with pytest.raises(DataError, match="but 1 wanted; give --channels 3 or --grey, or take one of them"):
        read_image([path])
    half = save(tmp_path / "b.png", COLOURS, GREY)
    with pytest.raises(DataError, match="transparency among them"):
        read_image([half], grey=True)
