"""Networks of three dimensions in other programs: what is exported answers as they do."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pytest
import SimpleITK as sitk
import torch

import jcl
from jcl.config import ExportConfig, PredictConfig
from jcl.export.bundle_slices import BlockProbabilities, ResampleThroughd
from jcl.files import read_json
from jcl.stages.export import export
from jcl.stages.predict import predict
from support.exported import random_volume_network, write_random_volume_run

SCHEMA = Path(__file__).parents[1] / "oracles" / "monai_meta_schema_20240725.json"
BLOCK = (8, 16, 32)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_random_volume_run(tmp_path_factory.mktemp("run") / "run", BLOCK)


@pytest.mark.slow
def test_onnx_takes_any_number_of_blocks(run, tmp_path):
    path = export(ExportConfig(run=run, to="onnx", out=tmp_path / "model.onnx"))
    session, network = onnxruntime.InferenceSession(path), random_volume_network(BLOCK)
    for count in (1, 2, 5):
        blocks = torch.rand(count, 1, *BLOCK)
        (found,) = session.run(["logits"], {"image": blocks.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(found, network(blocks).numpy(), atol=1e-5)
    about = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert about["sizes"] == "any number of blocks, of 8 x 16 x 32 only"
    assert json.loads(about["recipe"])["block"] == list(BLOCK)


def test_the_hubs_folder_segments_as_the_run_does(run, tmp_path):
    scan = sitk.GetImageFromArray(np.random.default_rng(0).normal(100, 20, (11, 40, 36)).astype(np.float32))
    sitk.WriteImage(scan, str(tmp_path / "scan.nii.gz"))
    folder = export(ExportConfig(run=run, to="hub", out=tmp_path / "hub"))
    found = []
    for name, source in {"run": run, "hub": folder}.items():
        (path,) = predict(PredictConfig(run=source, source=tmp_path / "scan.nii.gz", out=tmp_path / name))
        found.append(sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
    assert np.array_equal(*found)
    assert len(np.unique(found[0])) >= 3
    assert jcl.load(folder).preparation["block"] == list(BLOCK)
    card = (folder / "README.md").read_text()
    assert "It sees blocks of 8 x 16 x 32 voxels (slices, rows, columns)" in card
    assert "in medical volumes, fine-tuned" in card


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")
def test_a_bundle_slides_a_window_of_the_block(run, tmp_path):
    bundle = export(ExportConfig(run=run, to="monai", out=tmp_path / "bundle"))
    config = read_json(bundle / "configs" / "inference.json")
    assert config["inferer"] == {
        "_target_": "SlidingWindowInferer", "roi_size": [16, 32, 8], "sw_batch_size": "@batch_size",
        "overlap": 0.5, "mode": "gaussian", "sigma_scale": 0.125,
    }  # fmt: skip
    steps = [step["_target_"] for step in config["preprocessing"]["transforms"]]
    assert not {"SpatialPadd", "scripts.slices.ResampleThroughd"} & set(steps)
    assert "Activationsd" not in [step["_target_"] for step in config["postprocessing"]["transforms"]]
    metadata = read_json(bundle / "configs" / "metadata.json")
    jsonschema.validate(metadata, json.loads(SCHEMA.read_text()))
    image = metadata["network_data_format"]["inputs"]["image"]
    assert (image["spatial_shape"], image["is_patch_data"]) == ([8, 16, 32], True)
    assert "blocks of 8 x 16 x 32 voxels only" in (bundle / "docs" / "README.md").read_text()
    blocks = torch.rand(2, 1, *BLOCK)
    script = torch.jit.load(bundle / "models" / "model.ts")
    with torch.no_grad():
        wanted = random_volume_network(BLOCK)(blocks)
        torch.testing.assert_close(script(blocks), wanted, atol=1e-5, rtol=1e-5)
        turned = BlockProbabilities(script)(blocks.permute(0, 1, 3, 4, 2))
    torch.testing.assert_close(turned, wanted.softmax(1).permute(0, 1, 3, 4, 2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("slices", "apart", "to"), [(7, 5.0, 2.0), (24, 1.0, 2.5), (1, 5.0, 2.0), (6, 2.0, 2.0)])
def test_a_bundle_resamples_through_the_plane_as_prepare_does_and_back_as_predict_does(slices, apart, to):
    from monai.data.meta_tensor import MetaTensor

    from jcl.data.through_plane import resample_through
    from jcl.inference.through import own_scores

    volume = torch.rand(2, 5, 4, slices)
    affine = torch.diag(torch.tensor([2.0, 3.0, apart, 1.0], dtype=torch.float64))
    step = ResampleThroughd("image", to)
    done = step({"image": MetaTensor(volume, affine=affine), "other": 3})
    ours, spacing = resample_through(volume.numpy().transpose(0, 3, 1, 2), (apart, 2.0, 3.0), to)
    np.testing.assert_allclose(done["image"].numpy(), ours.transpose(0, 2, 3, 1), atol=1e-6)
    count = done["image"].shape[3]
    ends = [
        (done["image"].affine @ torch.tensor([0, 0, at, 1.0], dtype=torch.float64))[2] for at in (-0.5, count - 0.5)
    ]
    assert ends == pytest.approx([-apart / 2, (slices - 0.5) * apart])  # over the same length
    assert float(torch.linalg.norm(done["image"].affine[:3, 2])) == pytest.approx(spacing[0])
    scores = torch.rand(3, 5, 4, count)
    image = MetaTensor(scores, meta=done["image"].meta)
    image.applied_operations = done["image"].applied_operations
    back = step.inverse({"image": image})["image"]
    wanted = torch.stack(list(own_scores(iter(scores.permute(3, 0, 1, 2)), count, slices)), dim=-1)
    torch.testing.assert_close(torch.as_tensor(back.numpy()), wanted, atol=1e-6, rtol=1e-5)
    assert torch.equal(back.affine, affine)
