"""Pictures: a file is written that shows the labels, and only where they are."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from jcl.errors import DataError
from jcl.report.figures.pictures import draw_segmentations


def draw(path: Path, labels: np.ndarray) -> np.ndarray:
    image = np.random.default_rng(0).random((4, 16, 16))
    draw_segmentations(
        path, image, {"truth": labels, "JCL": labels}, class_names=["a", "b"], spacing=(5.0, 1.0, 1.0), slices=3
    )
    return imread(path)[..., :3]


def coloured(picture: np.ndarray) -> int:
    """Pixels that are not grey."""
    return int((np.ptp(picture, axis=-1) > 0.1).sum())


def test_labels_are_drawn_in_colour(tmp_path: Path):
    empty = np.zeros((4, 16, 16), np.uint8)
    labels = empty.copy()
    labels[1:3, 4:12, 4:12] = 2
    assert coloured(draw(tmp_path / "labels.png", labels)) > 3 * coloured(draw(tmp_path / "empty.png", empty))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="nowhere"):
        draw(tmp_path / "nowhere" / "picture.png", np.zeros((4, 16, 16), np.uint8))
