"""Pictures: how they are to be looked at, and the palettes of label files."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jcl.data.imagefile import palette_indices, readable
from jcl.data.volumes import label_values, read_image, read_label
from jcl.errors import DataError

LABELS = np.zeros((6, 8), np.uint8)
LABELS[1:3, 2:5], LABELS[4, 4] = 1, 15
SCAN = np.random.default_rng(0).integers(0, 256, (6, 8), np.uint8)


def save(path: Path, array: np.ndarray, palette: list[int] | None = None, **how) -> Path:
    picture = Image.fromarray(array)
    if palette is not None:
        picture = picture.copy()
        picture.putpalette(palette)
    picture.save(path, **how)
    return path


def voc_palette() -> list[int]:
    """That of PASCAL VOC, which annotation tools write: bits of the index, spread over the three colours."""
    colours = []
    for index in range(256):
        bits = [(index >> place) & 1 for place in range(8)]
        colours += [sum(bits[3 * k + c] << (7 - k) for k in range(3) if 3 * k + c < 8) for c in range(3)]
    return colours


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_that_is_to_be_turned_is_refused(tmp_path: Path, suffix: str, orientation: int) -> None:
    """Programs that turn it and programs that do not have its labels in two places:
    https://github.com/cvat-ai/cvat/issues/733, https://github.com/wkentaro/labelme/issues/232.
    """
    tags = Image.Exif()
    tags[0x0112] = orientation
    path = save(tmp_path / f"a{suffix}", SCAN, exif=tags)
    if orientation == 1:
        with readable(path):
            return
    with pytest.raises(DataError, match=r"by its EXIF orientation it is to be shown (turned|mirrored)"), readable(path):
        pass


def test_the_indices_into_a_palette_are_the_labels(tmp_path: Path) -> None:
    """As Pillow has them, by which VOC's labels are read: https://github.com/open-mmlab/mmsegmentation/issues/1784,
    https://github.com/wkentaro/labelme/issues/132.
    """
    scan = read_image([save(tmp_path / "scan.png", SCAN)])
    path = save(tmp_path / "label.png", LABELS, voc_palette())
    np.testing.assert_array_equal(read_label(path, scan)[0], LABELS)
    assert label_values(path) == (0, 1, 15)
    transparent = save(tmp_path / "transparent.png", LABELS, voc_palette(), transparency=0)
    np.testing.assert_array_equal(read_label(transparent, scan)[0], LABELS)
    few = save(tmp_path / "few.png", np.minimum(LABELS, 1), [0, 0, 0, 255, 0, 0], bits=1)
    assert label_values(few) == (0, 1)


def test_greys_that_are_their_own_indices_are_labels(tmp_path: Path) -> None:
    greys = [value for value in range(256) for _ in range(3)]
    assert label_values(save(tmp_path / "a.png", LABELS, greys)) == (0, 1, 15)


def test_greys_that_are_other_indices_are_refused(tmp_path: Path) -> None:
    """A mask of 0 and 255 that a program packed: its values are 255 to one reader, and 1 to another."""
    path = save(tmp_path / "a.png", np.minimum(LABELS, 1), [0, 0, 0, 255, 255, 255])
    with pytest.raises(DataError, match=r"its pixels are indices \(0, 1\) of other greys \(0, 255\)"):
        palette_indices(path)


def test_a_picture_without_a_palette_has_no_indices(tmp_path: Path) -> None:
    assert palette_indices(save(tmp_path / "a.png", SCAN)) is None
    with pytest.raises(DataError, match="colour"):
        read_image([save(tmp_path / "b.png", LABELS, voc_palette())])


def test_grey_with_a_transparent_value_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", SCAN, transparency=7)
    with pytest.raises(DataError, match="has an alpha channel"), readable(path):
        pass


def test_pillows_own_limit_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", LABELS, voc_palette())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)  # 48 are more, but less than twice as many: a warning
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert palette_indices(path) is not None
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with readable(path):
        pass
    with pytest.raises(DataError, match="too large for a picture with a palette"):
        palette_indices(path)
