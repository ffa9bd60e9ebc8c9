"""What a page is given to show is the scan: to the value where it is whole, to a 65535th of its range where not."""

from pathlib import Path

import numpy as np
import pytest

from jcl.config import PredictConfig
from jcl.data.volumes import read_image
from jcl.serve import segmenting
from jcl.serve.view import axis_letters, write_view
from support.serving import SHAPE, save_scan, scan
from support.thresholds import make_recipe_of, threshold_network, write_run


@pytest.mark.parametrize("step", [1, 7, 0.37])
def test_values_come_back(tmp_path: Path, step: float) -> None:
    array = (scan() * step - 5).astype(np.float32 if step < 1 else np.int16)
    volume = read_image([save_scan(tmp_path / "a.nii.gz", array=array)])
    view = write_view(tmp_path / "image", volume.array[0], volume.geometry)
    stored = np.fromfile(tmp_path / "image", "<u2").reshape(view.shape)
    values = view.offset + view.scale * stored
    assert np.abs(values - volume.array[0]).max() <= (0 if step >= 1 else 105 * step / 65535)
    low, high = np.percentile(volume.array, (1, 99))
    assert view.window == pytest.approx((low, high))


def test_axes_are_those_of_the_turned_scan(tmp_path: Path) -> None:
    """The file runs to right, front and head; slices go to the head, rows to the back and columns to the left."""
    volume = read_image([save_scan(tmp_path / "a.nii.gz")])
    view = write_view(tmp_path / "image", volume.array[0], volume.geometry)
    assert view.axes == ("S", "P", "L")
    assert view.shape == SHAPE
    assert view.spacing == pytest.approx((4.0, 1.1, 0.9))
    assert axis_letters(np.diag([-1.0, 1, -1, 1])) == ("R", "P", "I")


def test_the_window_of_the_preparation_is_shown_at_first(tmp_path: Path) -> None:
    volume = read_image([save_scan(tmp_path / "a.nii.gz")])
    assert write_view(tmp_path / "image", volume.array[0], volume.geometry, (-160.0, 240.0)).window == (-160.0, 240.0)


def test_a_page_shows_a_scan_in_the_window_of_the_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", threshold_network(0.5), make_recipe_of({1: "liver"}, window=(20.0, 60.0)))
    before = segmenting._settings, segmenting._work
    try:
        segmenting.setup(PredictConfig(run=run, source=tmp_path, out=tmp_path, precision="float32"))
        (tmp_path / "out").mkdir()
        source = save_scan(tmp_path / "in" / "a.nii.gz")
        view = segmenting.segment(segmenting.Task(source=source.parent, folder=tmp_path / "out", view=True)).view
    finally:
        segmenting._settings, segmenting._work = before
    assert view is not None
    assert view.window == (20.0, 60.0)
