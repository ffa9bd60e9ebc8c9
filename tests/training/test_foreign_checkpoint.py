"""Tensors out of files of `torch.save`, whatever else they hold; nothing of them is ever run."""

import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from jcl.errors import DataError
from jcl.training.foreign_checkpoint import read_checkpoint

STATE = OrderedDict({"a.weight": torch.arange(6.0).view(2, 3), "b": torch.tensor(7)})


class Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in STATE.items()}


def optimiser() -> dict:
    parameter = torch.nn.Parameter(torch.ones(3))
    made = torch.optim.SGD([parameter], 0.1, momentum=0.9)
    parameter.sum().backward()
    made.step()
    return made.state_dict()


LAYOUTS = {
    "the state dict alone": STATE,
    "MACL's latest.pth": {"net": STATE},
    "MACL's checkpoint_epoch.pkl": {
        "optimizer_state_dict": optimiser(), "model_state_dict": STATE, "current_lr": 0.1, "train_loss": 2.5,
    },
    "a loss of NumPy's": {"net": STATE, "train_loss": np.float64(2.5), "best": np.float32(0.5), "epoch": np.int64(4)},
    "state_dict": {"state_dict": STATE, "epoch": 3},
    "of DataParallel": {"net": prefixed("module.")},
    "of both wrappers": prefixed("module.module."),
    "parameters": {"net": {n: torch.nn.Parameter(t) if t.is_floating_point() else t for n, t in STATE.items()}},
}  # fmt: skip


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before PyTorch 1.6"])
@pytest.mark.parametrize("content", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_where_tensors_are_found(content, old, tmp_path):
    path = tmp_path / "latest.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    found = read_checkpoint(path)
    assert list(found) == list(STATE)
    for name, tensor in found.items():
        assert torch.equal(tensor, STATE[name])
        assert not tensor.requires_grad


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("place", ["beside", "among", "pickle"])
def test_code_is_named_and_not_run(place, old, tmp_path):
    path, made = tmp_path / "latest.pth", tmp_path / "made"
    content = {"beside": {"net": STATE, "x": Runs(made)}, "among": {"net": {**STATE, "x": Runs(made)}}}.get(place)
    if content is None:
        path.write_bytes(pickle.dumps({"net": Runs(made)}, protocol=4 if old else 2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(DataError) as refused:
        read_checkpoint(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)
    assert "mkdir, which would run code" in str(refused.value) or place == "pickle"
    assert not made.exists()


def test_a_whole_network_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "net.pth")
    with pytest.raises(
        DataError, match=r"Linear, which would run code when it is opened; .* Save the state dict alone"
    ):
        read_checkpoint(tmp_path / "net.pth")


def cut(path: Path) -> None:
    torch.save({"net": STATE}, path)
    path.write_bytes(path.read_bytes()[:-200])


def cut_old(path: Path) -> None:
    torch.save({"net": STATE}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-4])


def packed(path: Path) -> None:
    torch.save({"net": {"w": torch.zeros(10**6)}}, path)
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(f"{path}.tmp", "w", zipfile.ZIP_DEFLATED) as after:
        for entry in before.infolist():
            after.writestr(entry.filename, before.read(entry))
    Path(f"{path}.tmp").replace(path)


def other_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("scan.nii", b"1234")


WRONG = {
    "cut short": (cut, "no checkpoint of PyTorch, or cut short"),
    "cut short, as before PyTorch 1.6": (cut_old, "no checkpoint of PyTorch, or cut short"),
    "packed": (packed, "is packed, as PyTorch packs no checkpoint"),
    "another archive": (other_archive, "no checkpoint of PyTorch"),
    "empty": (lambda path: path.write_bytes(b""), r"is empty \(0 bytes\)"),
    "not there": (lambda path: None, r"cannot be read \(no such file\)"),
    "a folder": (lambda path: path.mkdir(), "it is a folder"),
    "a pipe": (os.mkfifo, "is a pipe"),
    "a web page": (lambda path: path.write_text("<!DOCTYPE html>"), "is a web page, .* download it again"),
    "a text": (lambda path: path.write_text("weights"), "no checkpoint of PyTorch"),
    "a list": (lambda path: torch.save([torch.ones(2)], path), "has no tensors with names"),
    "numbers": (lambda path: torch.save({"net": {"a": 1.0}}, path), "has no tensors with names"),
    "a view of one value": (
        lambda path: torch.save({"net": {"w": torch.zeros(1).expand(10**6, 10**6)}}, path),
        "w claims more values than the file has",
    ),
    "a sparse tensor": (lambda path: torch.save({"net": {"w": torch.eye(3).to_sparse()}}, path), "w claims more"),
}


@pytest.mark.parametrize(("make", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_is_no_checkpoint(make, message, tmp_path):
    path = tmp_path / "latest.pth"
    make(path)
    with pytest.raises(DataError, match=message) as refused:
        read_checkpoint(path)
    assert str(refused.value).startswith(str(path))
