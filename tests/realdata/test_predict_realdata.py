"""Prediction of real volumes keeps their geometry: two orientations, odd spacings, with resampling."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from jcl.config import PredictConfig
from jcl.stages.predict import predict
from support.thresholds import make_recipe_of, threshold_network, write_run

pytestmark = pytest.mark.realdata


@pytest.mark.parametrize("spacing", [None, 1.7])
@pytest.mark.parametrize("name", ["mscmr", "la2018", "hippocampus", "chaos"])
def test_geometry_and_place(realdata, tmp_path, name, spacing):
    sources = sorted((realdata / name / "imagesTr").glob("*.nii.gz"))[:2]
    recipe = make_recipe_of({500: "bright"}, spacing=spacing, padded=(64, 64), clip=(1.0, 99.0))
    run = write_run(tmp_path / "run", threshold_network(0.5), recipe)
    (tmp_path / "scans").mkdir()
    for source in sources:
        (tmp_path / "scans" / source.name).symlink_to(source)
    written = predict(PredictConfig(run=run, source=tmp_path / "scans", out=tmp_path / "out", precision="float32"))
    assert [path.name for path in written] == [source.name for source in sources]
    for path, source in zip(written, sources, strict=True):
        check(path, source, exact=spacing is None)


def check(path: Path, source: Path, *, exact: bool) -> None:
    """The source's shape and affine, and the voxels above half of the clipped range."""
    result, image = nibabel.load(path), nibabel.load(source)
    assert result.shape == image.shape
    assert np.allclose(result.affine, image.affine, atol=1e-3)
    labels, intensities = np.asarray(result.dataobj), image.get_fdata()
    low, high = np.percentile(intensities, (1, 99))
    scaled = (intensities - low) / (high - low)
    bright = scaled > 0.5
    assert set(np.unique(labels)) == {0, 500}
    if exact:
        clear = np.abs(scaled - 0.5) > 1e-3
        assert np.array_equal((labels == 500)[clear], bright[clear])
    else:
        found = labels == 500
        assert 2 * (found & bright).sum() / (found.sum() + bright.sum()) > 0.75
