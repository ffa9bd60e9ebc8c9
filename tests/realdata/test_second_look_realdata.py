"""Maps and volumes of real scans: their geometry, their sums, and millilitres as SimpleITK has them."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from jcl.config import PredictConfig
from jcl.files import read_json
from jcl.stages.predict import predict
from support.thresholds import make_recipe_of, threshold_network, write_run

pytestmark = pytest.mark.realdata


@pytest.mark.parametrize("name", ["mscmr", "la2018"])
def test_maps_and_volumes(realdata, tmp_path: Path, name: str):
    sources = sorted((realdata / name / "imagesTr").glob("*.nii.gz"))[:2]
    for number, spacing in enumerate((None, 1.7)):
        recipe = make_recipe_of({500: "bright"}, spacing=spacing, padded=(64, 64), clip=(1.0, 99.0))
        write_run(tmp_path / f"run-{number}", threshold_network(0.5 + 0.1 * number), recipe)
    (tmp_path / "scans").mkdir()
    for source in sources:
        (tmp_path / "scans" / source.name).symlink_to(source)
    runs, more = (tmp_path / "run-0", tmp_path / "run-1"), {"probabilities": True, "doubt": True, "overview": True}
    config = PredictConfig(run=runs, source=tmp_path / "scans", out=tmp_path / "out", precision="float32", **more)
    for path, source in zip(predict(config), sources, strict=True):
        image = nibabel.load(source)
        scores = nibabel.load(tmp_path / "out" / "probabilities" / source.name)
        doubt = nibabel.load(tmp_path / "out" / "doubt" / source.name)
        for each in (scores, doubt):
            assert each.shape[:3] == image.shape
            np.testing.assert_array_equal(each.affine, image.affine)
        values = np.asarray(scores.dataobj)
        np.testing.assert_allclose(values.sum(-1), 1, atol=3e-3)
        p = values.clip(1e-6, 1)
        np.testing.assert_allclose(np.asarray(doubt.dataobj), -(p * np.log2(p)).sum(-1), atol=2e-2)
        written = sitk.ReadImage(str(path))
        voxels = int((sitk.GetArrayFromImage(written) > 0).sum())
        found = read_json(tmp_path / "out" / "volumes.json")["scans"][source.name.removesuffix(".nii.gz")]
        assert found["structures"]["bright"]["voxels"] == voxels > 1000
        expected = voxels * np.prod(written.GetSpacing()) / 1000
        assert found["structures"]["bright"]["ml"] == pytest.approx(expected, rel=1e-4)
        assert 0 < found["doubt"] < 1
