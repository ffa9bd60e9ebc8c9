"""ONNX files, run by onnxruntime."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from jcl import backbones
from jcl.backbones import Backbone
from jcl.config import ExportConfig
from jcl.errors import DataError
from jcl.export import onnx as exporter
from jcl.files import read_json
from jcl.stages.export import export
from support.effort import LONG
from support.exported import LABELS, random_network, write_random_run
from support.thresholds import make_recipe_of


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_random_run(tmp_path_factory.mktemp("run") / "run", spacing=1.5)


def answers(path: Path, images: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": images.numpy()})[0]


@pytest.mark.slow
def test_file(run, tmp_path):
    path = export(ExportConfig(run=run, to="onnx", out=tmp_path / "model.onnx"))
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    network = random_network()
    for shape in ((1, 40, 56), (3, 50, 70), (2, 17, 33), (1, 128, 96), (7, 64, 64)):
        images = torch.rand(shape[0], 1, *shape[1:])
        with torch.no_grad():
            np.testing.assert_allclose(answers(path, images), network(images).numpy(), atol=1e-5)

    model = onnx.load(path)
    assert [entry.version for entry in model.opset_import if not entry.domain] == [18]
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert found["sizes"] == "any number of images, of any size above 16 x 16"
    assert json.loads(found["recipe"]) == read_json(run / "run.json")["recipe"]
    assert {label["value"]: label["name"] for label in json.loads(found["labels"])} == {0: "background", **LABELS}


@pytest.mark.slow
def test_neighbours_are_channels(tmp_path):
    run = write_random_run(tmp_path / "run", context=1)
    path = export(ExportConfig(run=run, to="onnx", out=tmp_path / "model.onnx"))
    images = torch.rand(3, 3, 40, 56)
    with torch.no_grad():
        np.testing.assert_allclose(answers(path, images), random_network(channels=3)(images).numpy(), atol=1e-5)
    found = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(found["channels"]) == ["slice -1", "slice", "slice +1"]
    assert json.loads(found["recipe"])["context"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", backbones.available(2) if LONG else ["ukan"])
def test_every_backbone(name, tmp_path, monkeypatch):
    """In what sizes it takes, the file gives what the network gives: the exporter's own check passed, and ours.

    PyTorch takes minutes to follow all of them for every size; where there is less time, for one size. The U-Net of
    `test_file` is followed for every size always.
    """
    if not LONG:
        attempts = exporter._attempts
        monkeypatch.setattr(exporter, "_attempts", lambda *given: list(attempts(*given))[-1:])
    torch.manual_seed(0)
    network = backbones.load(name)(in_channels=2, classes=3, width=4).eval()
    backbone = {"name": name, "in_channels": 2, "classes": 3, "width": 4}
    recipe = make_recipe_of({1: "a", 2: "b"}, channels=2, padded=(64, 64))
    info = {"backbone": backbone, "recipe": recipe, "class_names": ["a", "b"], "versions": {}, "kind": "finetune"}
    exporter.write_onnx(tmp_path / "x.onnx", network, info)
    about = {entry.key: entry.value for entry in onnx.load(tmp_path / "x.onnx").metadata_props}
    images = torch.rand(1 if about["sizes"].startswith("one image") else 4, 2, 64, 64)
    with torch.no_grad():
        np.testing.assert_allclose(answers(tmp_path / "x.onnx", images), network(images).numpy(), atol=1e-4)


class OneSize(Backbone):
    """A network that asks for the number of pixels, which no exporter can follow for all sizes."""

    stride, in_channels = 4, 1

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8 * 12, 3 * 8 * 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.flatten(1)).reshape(-1, 3, 8, 12)


@pytest.mark.slow
def test_a_network_of_one_size(tmp_path):
    network = OneSize().eval()
    recipe = make_recipe_of({1: "a", 2: "b"}, padded=(7, 12))
    info = {
        "backbone": {"name": "one_size"},
        "recipe": recipe,
        "class_names": ["a", "b"],
        "versions": {},
        "kind": "finetune",
    }
    exporter.write_onnx(tmp_path / "x.onnx", network, info)
    images = torch.rand(5, 1, 8, 12)
    np.testing.assert_allclose(answers(tmp_path / "x.onnx", images), network(images).detach().numpy(), atol=1e-5)
    found = {entry.key: entry.value for entry in onnx.load(tmp_path / "x.onnx").metadata_props}
    assert found["sizes"] == "any number of images, of 8 x 12 only"


def test_a_wrong_file_is_not_written(run, tmp_path, monkeypatch):
    """The exporter is given a file that is whole, and of another network: a convolution of 1 x 1."""
    shapes = [["b", 1, "h", "w"], ["b", 4, "h", "w"]]
    image, logits = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(("image", "logits"), shapes, strict=True)
    )
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [4, 1, 1, 1], [1.0, 2.0, 3.0, 4.0])
    node = helper.make_node("Conv", ["image", "weight"], ["logits"])
    graph = helper.make_graph([node], "other", [image], [logits], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    monkeypatch.setattr(exporter, "_as_onnx", lambda *given: model.SerializeToString())
    with pytest.raises(DataError, match=r"otherwise than PyTorch .* so it is not written"):
        export(ExportConfig(run=run, to="onnx", out=tmp_path / "model.onnx"))
    assert list(tmp_path.iterdir()) == []
