"""Real volumes through prepare, a short fine-tuning and export: other programs answer as `jcl predict` does."""

from pathlib import Path

import nibabel
import numpy as np
import onnxruntime
import pytest
import torch

import jcl
from jcl.config import ExportConfig, FinetuneConfig, PredictConfig, PrepareConfig
from jcl.data.resampling import prepare_volume
from jcl.data.volumes import read_image
from jcl.stages.export import export
from jcl.stages.finetune import finetune
from jcl.stages.predict import predict
from jcl.stages.prepare import prepare
from support.bundles import run_bundles
from support.effort import LONG

pytestmark = pytest.mark.realdata

CASES = {"mscmr": (1, 7), "la2018": (0, 1), "mscmr in blocks": (1, 7)}
"""Places of the volumes in the sorted folder; mscmr's two have different orientations."""

IN_BLOCKS = {"backbone": "unet3d", "block": (8, 32, 32), "batch_size": 2}


@pytest.fixture(scope="module", params=CASES)
def trained(request, realdata, tmp_path_factory) -> tuple[Path, list[Path]]:
    """A run trained for some seconds on one of two scans, and both."""
    base = tmp_path_factory.mktemp(request.param.replace(" ", "-"))
    source = realdata / request.param.partition(" ")[0]
    files = sorted((source / "imagesTr").glob("*.nii.gz"))
    chosen = [files[place] for place in CASES[request.param]]
    for folder in ("imagesTr", "labelsTr"):
        (base / "scans" / folder).mkdir(parents=True)
        for file in chosen:
            (base / "scans" / folder / file.name).symlink_to(source / folder / file.name)
    (base / "scans" / "dataset.json").symlink_to(source / "dataset.json")
    prepare(PrepareConfig(source=base / "scans", out=base / "store", spacing=2.0, workers=1))
    usual = {"init": "none", "folds": 2, "width": 4, "steps": 60, "learning_rate": 1e-2}
    usual |= IN_BLOCKS if "blocks" in request.param else {}
    run = finetune(FinetuneConfig(store=base / "store", out=base / "fine", **usual))
    return run, [base / "scans" / "imagesTr" / file.name for file in chosen]


@pytest.mark.parametrize("trained", ["mscmr", *["la2018"] * LONG], indirect=True)
def test_onnx_on_every_slice(trained, tmp_path):
    """Of one set where time is short: PyTorch follows the same layers for both."""
    run, scans = trained
    path = export(ExportConfig(run=run, to="onnx", out=tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    segmenter = jcl.load(run)
    for scan in scans:
        image, _ = prepare_volume(read_image([scan]), segmenter.preparation)
        for slices in np.split(image.swapaxes(0, 1), range(16, image.shape[1], 16)):
            with torch.no_grad():
                wanted = segmenter.network(torch.from_numpy(np.ascontiguousarray(slices))).numpy()
            (got,) = session.run(None, {"image": np.ascontiguousarray(slices)})
            assert np.abs(got - wanted).max() <= 1e-4


def test_monai_on_every_voxel(trained, tmp_path):
    run, scans = trained
    bundle = export(ExportConfig(run=run, to="monai", out=tmp_path / "bundle"))
    run_bundles((bundle, scans[0].parent, tmp_path / "theirs"))
    ours = predict(PredictConfig(run=run, source=scans[0].parent, out=tmp_path / "ours", precision="float32"))
    for path in ours:
        own, other = nibabel.load(path), nibabel.load(tmp_path / "theirs" / path.name)
        labels, theirs = np.asarray(own.dataobj), np.asarray(other.dataobj)
        assert np.allclose(own.affine, other.affine, atol=1e-3)
        assert len(np.unique(labels)) > 1
        assert (labels == theirs).mean() >= 0.9999
        for value in np.unique(labels):
            mine, found = labels == value, theirs == value
            assert 2 * (mine & found).sum() / (mine.sum() + found.sum()) >= 0.999


def test_the_folder_for_the_hub_is_the_run(trained, tmp_path):
    run, scans = trained
    folder = export(ExportConfig(run=run, to="hub", out=tmp_path / "folder"))
    for number, source in enumerate((run, folder)):
        predict(PredictConfig(run=source, source=scans[0], out=tmp_path / str(number)))
    first, second = (np.asarray(nibabel.load(tmp_path / n / scans[0].name).dataobj) for n in ("0", "1"))
    assert np.array_equal(first, second)
