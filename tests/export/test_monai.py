"""MONAI bundles: against MONAI's schema, and run by MONAI's own runner, which finds no jcl."""

import itertools
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import load_file

from jcl.config import ExportConfig, PredictConfig
from jcl.data.geometry import orientation
from jcl.files import read_json
from jcl.stages.export import export
from jcl.stages.predict import predict
from support.bundles import run_bundles
from support.exported import LABELS, random_network, write_random_run, write_random_volume_run

SCHEMA = Path(__file__).parents[1] / "oracles" / "monai_meta_schema_20240725.json"
"""As https://project-monai.github.io/schema/meta_schema_20240725.json has it; MONAI's, under the Apache License 2.0."""


def write_scans(folder: Path) -> None:
    """Noise in several orientations and spacings; a slice axis that is the first, the second and the third."""
    folder.mkdir()
    turns = [(1, 0, 0, 0, 1, 0, 0, 0, 1), (0, 0, -1, 1, 0, 0, 0, -1, 0), (0, 1, 0, -1, 0, 0, 0, 0, -1)]
    oblique = tuple(np.array([[0.6, 0.64, 0.48], [-0.8, 0.48, 0.36], [0, -0.6, 0.8]]).ravel())
    spacings = [(1.0, 1.3, 5.0), (6.0, 0.8, 1.1), (1.0, 4.0, 2.0), (1.2, 1.25, 8.0)]
    for number, (turn, spacing) in enumerate(zip([*turns, oblique], spacings, strict=True)):
        shape = np.array([22, 22, 22])
        shape[2 - int(np.argmax(spacing))] = 5
        noise = np.random.default_rng(number).normal(100, 20, shape)
        smooth = sitk.DiscreteGaussian(sitk.GetImageFromArray(noise.astype(np.float32)), 1.0)
        smooth.SetSpacing(spacing)
        smooth.SetDirection(turn)
        smooth.SetOrigin((3.0, -20.0, 7.5 * number))
        sitk.WriteImage(smooth, str(folder / f"s{number}.nii.gz"))


def check_agreement(run: Path, scans: Path, folder: Path, *, least: float) -> None:
    """Voxel for voxel with `jcl predict`, in the same geometry; borders may fall otherwise by rounding."""
    ours = predict(PredictConfig(run=run, source=scans, out=folder / "ours", precision="float32"))
    assert sorted(path.name for path in (folder / "theirs").iterdir()) == [path.name for path in ours]
    seen: set[int] = set()
    for path in ours:
        own, other = sitk.ReadImage(str(path)), sitk.ReadImage(str(folder / "theirs" / path.name))
        assert own.GetSize() == other.GetSize()
        for get in ("GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(own, get)() == pytest.approx(getattr(other, get)(), abs=1e-4), get
        labels = sitk.GetArrayFromImage(own)
        assert (labels == sitk.GetArrayFromImage(other)).mean() >= least, path.name
        seen |= set(np.unique(labels).tolist())
    assert len(seen) >= 3


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_random_run(tmp_path_factory.mktemp("run") / "run", spacing=1.5)


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory) -> Path:
    return export(ExportConfig(run=run, to="monai", out=tmp_path_factory.mktemp("monai") / "bundle"))


def test_files(bundle):
    files = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    assert files == {
        "LICENSE", "configs/inference.json", "configs/metadata.json", "docs/README.md", "models/model.safetensors",
        "models/model.ts", "scripts/__init__.py", "scripts/slices.py",
    }  # fmt: skip
    for name, tensor in random_network().state_dict().items():
        assert torch.equal(load_file(bundle / "models" / "model.safetensors")[name], tensor)
    assert "jcl" not in "".join(
        line for line in (bundle / "scripts" / "slices.py").read_text().splitlines() if "import" in line
    )


@pytest.mark.parametrize(("normalisation", "bounds"), [("minmax", (0.0, 1.0)), ("zscore", (-160.0, 240.0))])
def test_a_window_is_monais_range_of_values(tmp_path, normalisation, bounds):
    run = write_random_run(tmp_path / "run", window=(-160.0, 240.0), normalisation=normalisation)
    folder = export(ExportConfig(run=run, to="monai", out=tmp_path / "bundle"))
    steps = read_json(folder / "configs" / "inference.json")["preprocessing"]["transforms"]
    (clipped,) = [step for step in steps if "ScaleIntensityRange" in step["_target_"]]
    assert clipped == {
        "_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -160.0, "a_max": 240.0,
        "b_min": bounds[0], "b_max": bounds[1], "clip": True,
    }  # fmt: skip
    assert ("NormalizeIntensityd" in [step["_target_"] for step in steps]) == (normalisation == "zscore")


def test_metadata_is_valid(bundle, run):
    metadata = read_json(bundle / "configs" / "metadata.json")
    schema = json.loads(SCHEMA.read_text())
    jsonschema.validate(metadata, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**metadata, "network_data_format": {}}, schema)
    assert metadata["jcl"]["recipe"] == read_json(run / "run.json")["recipe"]
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"] == {
        "0": "background", **{str(k): name for k, name in enumerate(LABELS.values(), start=1)},
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*torch.jit.load.*deprecated:DeprecationWarning")
@pytest.mark.parametrize("shape", [(1, 40, 56), (3, 50, 70), (2, 17, 33), (5, 128, 96)])
def test_torchscript_of_any_size(bundle, shape):
    images = torch.rand(shape[0], 1, *shape[1:])
    with torch.no_grad():
        got = torch.jit.load(bundle / "models" / "model.ts")(images)
        torch.testing.assert_close(got, random_network()(images), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_the_rule_of_orientation_is_ours():
    """The bundle has it in a form of its own: all 48 turns, oblique ones, and three relations of the spacings."""
    from jcl.export.bundle_slices import axcodes

    names = {"R": (0, -1), "L": (0, 1), "A": (1, -1), "P": (1, 1), "I": (2, -1), "S": (2, 1)}  # in LPS
    turns = [
        np.eye(3)[:, list(p)] * s
        for p in itertools.permutations(range(3))
        for s in itertools.product((1, -1), repeat=3)
    ]
    rotations = [np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0] for seed in range(40)]
    for matrix in [*turns, *rotations]:
        for spacing, size in (((1, 1.5, 4), (9, 8, 7)), ((1, 1.02, 1.1), (9, 8, 7)), ((1, 1, 1), (9, 1, 7))):
            axes, flips = orientation(matrix, spacing, size)
            affine = np.eye(4)
            affine[:3, :3] = np.diag([-1, -1, 1]) @ matrix @ np.diag(spacing)
            codes = axcodes(affine, size)
            for code, axis, flip in zip(codes, [*axes[1:], axes[0]], [*flips[1:], flips[0]], strict=True):
                direction = matrix[:, 2 - axis] * (-1 if flip else 1)
                world, sign = names[code]
                assert abs(direction[world]) > 0.3  # nibabel pairs each axis with one letter, not always the largest
                assert np.sign(direction[world]) == sign


@pytest.mark.parametrize(("slices", "context"), [(1, 1), (2, 3), (6, 2)])
def test_the_bundle_gathers_the_neighbours_that_the_loader_does(slices, context):
    from monai.data.meta_tensor import MetaTensor

    from jcl.data.context import stack_neighbours
    from jcl.export.bundle_slices import AddNeighboursd

    volume = torch.rand(2, 5, 4, slices)
    image = MetaTensor(volume, affine=torch.diag(torch.tensor([2.0, 3.0, 5.0, 1.0])))
    image.applied_operations = [{"class": "before"}]
    found = AddNeighboursd("image", context)({"image": image, "other": 3})
    expected = stack_neighbours(volume.numpy().transpose(0, 3, 1, 2), 0, range(slices), slices, context)
    assert np.array_equal(found["image"].numpy(), expected.transpose(0, 2, 3, 1))
    assert found["image"].applied_operations == [{"class": "before"}]  # what is undone before is undone now
    assert torch.equal(found["image"].affine, image.affine)
    assert found["other"] == 3


def test_a_bundle_of_a_run_that_sees_neighbours(tmp_path):
    run = write_random_run(tmp_path / "run", context=1)
    bundle = export(ExportConfig(run=run, to="monai", out=tmp_path / "bundle"))
    metadata = read_json(bundle / "configs" / "metadata.json")
    jsonschema.validate(metadata, json.loads(SCHEMA.read_text()))
    image = metadata["network_data_format"]["inputs"]["image"]
    assert (image["num_channels"], image["channel_def"]["0"]) == (3, "slice -1")
    steps = read_json(bundle / "configs" / "inference.json")["preprocessing"]["transforms"]
    assert steps[-1] == {"_target_": "scripts.slices.AddNeighboursd", "keys": "image", "context": 1}


@pytest.mark.slow
@pytest.mark.long
def test_monai_segments_as_predict_does(tmp_path):
    write_scans(tmp_path / "scans")
    recipes = {
        "spacing": {"spacing": 1.5},
        "zscore": {"normalisation": "zscore"},
        "window": {"window": (100.0, 600.0)},
        "window and zscore": {"window": (100.0, 600.0), "normalisation": "zscore"},
        "fit": {"fit": True, "size": 30},
        "context": {"context": 1, "spacing": 1.5},
        "through the plane": {"spacing": 1.5, "spacing_through": 2.0},
        "blocks": {"block": (8, 16, 16)},
        "blocks through the plane": {"block": (8, 16, 16), "spacing": 1.5, "spacing_through": 2.0},
    }
    for name, recipe in recipes.items():
        write = write_random_volume_run if "block" in recipe else write_random_run
        run = write(tmp_path / name / "run", **recipe)
        export(ExportConfig(run=run, to="monai", out=tmp_path / name / "bundle"))
    run_bundles(*((tmp_path / name / "bundle", tmp_path / "scans", tmp_path / name / "theirs") for name in recipes))
    for name in recipes:
        check_agreement(tmp_path / name / "run", tmp_path / "scans", tmp_path / name, least=0.9999)
