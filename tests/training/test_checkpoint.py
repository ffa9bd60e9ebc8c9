"""Checkpoints: whole or not at all, verified, and exact."""

import hashlib
import pickle
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from jcl.errors import DataError
from jcl.files import read_json, write_atomically, write_json
from jcl.training.checkpoint import Checkpointer, read_weights, write_weights
from jcl.training.optim import adam, set_learning_rate, sgd


def network() -> nn.Module:
    """With dropout, which draws from PyTorch's own generator."""
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout2d(), nn.Conv2d(3, 2, 3)).to(
        memory_format=torch.channels_last
    )


def train(model: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator, steps: int) -> None:
    set_learning_rate(optimizer, 0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.rand(2, 1, 8, 8, generator=generator)).square().mean().backward()
        optimizer.step()


def session(run: Path, seed: int, kind=adam) -> tuple[nn.Module, torch.optim.Optimizer, torch.Generator, Checkpointer]:
    torch.manual_seed(seed)
    model = network()
    optimizer = kind(model.parameters()) if kind is adam else sgd(model.parameters(), weight_decay=1e-5)
    generator = torch.Generator().manual_seed(seed)
    return model, optimizer, generator, Checkpointer(run, model, optimizer, generator, minutes=60.0)


@pytest.mark.parametrize("kind", [adam, sgd])
def test_restored_training_goes_on_bit_for_bit(tmp_path, kind):
    model, optimizer, generator, checkpointer = session(tmp_path, 0, kind)
    train(model, optimizer, generator, 3)
    checkpointer.save(3)
    train(model, optimizer, generator, 4)
    again, other_optimizer, other_generator, other = session(tmp_path, 9, kind)
    assert other.restore() == 3
    train(again, other_optimizer, other_generator, 4)
    for (name, a), b in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_nothing_to_restore(tmp_path):
    assert session(tmp_path, 0)[3].restore() == 0


def test_the_newest_two_are_kept(tmp_path):
    checkpointer = session(tmp_path, 0)[3]
    for step in (1, 2, 10):
        checkpointer.save(step)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-000000002", "step-000000010"]


@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors", "state.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, name, harm):
    checkpointer = session(tmp_path, 0)[3]
    checkpointer.save(1)
    checkpointer.save(2)
    path = tmp_path / "checkpoints" / "step-000000002" / name
    content = bytearray(path.read_bytes())
    if harm == "remove":
        path.unlink()
    else:
        # the last byte of a tensor, which no parser would miss; a bracket of the JSON
        content[-1 if name.endswith("safetensors") else 0] ^= 1
        path.write_bytes(content if harm == "flip" else content[: len(content) // 2])
    with pytest.warns(UserWarning, match="passed over"):
        assert session(tmp_path, 0)[3].restore() == 1


def test_a_half_written_checkpoint_has_no_name(tmp_path):
    (tmp_path / "checkpoints" / ".step-000000005.tmp").mkdir(parents=True)
    checkpointer = session(tmp_path, 0)[3]
    assert checkpointer.restore() == 0
    checkpointer.save(5)
    assert session(tmp_path, 0)[3].restore() == 5


@pytest.mark.parametrize(("seconds", "checkpoints"), [(0, 0), (7199, 1), (7200, 2), (90_000, 3)])
def test_room_that_a_run_will_take(tmp_path, seconds, checkpoints):
    """One checkpoint an hour, at most two and the one being written: each has weights and what the optimiser keeps."""
    model, optimizer, generator, checkpointer = session(tmp_path, 0)
    train(model, optimizer, generator, 1)
    weights = sum(t.nbytes for t in model.state_dict().values())
    moments = sum(2 * p.nbytes + 4 for p in model.parameters())  # two of each for Adam, and a count of its steps
    assert checkpointer.foreseen_bytes(seconds) == weights + checkpoints * (weights + moments)


def test_what_stands_for_weights_that_are_not_here(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4917\nsize 261136\n")
    with pytest.raises(DataError, match="fetch it, as with"):
        read_weights(path, "0" * 64)
    path.write_text("<!DOCTYPE html>")
    with pytest.raises(DataError, match="damaged"):
        read_weights(path, "0" * 64)


def test_every_flipped_byte_of_weights_is_noticed(tmp_path):
    path = tmp_path / "w.safetensors"
    digest = write_weights(path, {"a": torch.arange(6.0)})
    content = path.read_bytes()
    for index in range(len(content)):
        harmed = bytearray(content)
        harmed[index] ^= 0x10
        path.write_bytes(harmed)
        with pytest.raises(DataError, match="damaged"):
            read_weights(path, digest)


def test_pickles_are_refused(tmp_path):
    pickles = [(f"{number}.pt", pickle.dumps({"a": 1}, protocol=number)) for number in range(2, 6)]
    for name, content in (*pickles, ("b.pth", b"PK\x03\x04rest")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="pickle"):
            read_weights(tmp_path / name)


@pytest.mark.parametrize("size", [0x280, 0x480])
def test_a_header_whose_length_begins_as_a_pickle_does(tmp_path, size):
    """The lengths 0x280 and 0x480 are the bytes that pickles of protocols 2 and 4 begin with."""
    whole = safetensors.torch.save({"a" * (size - 56): torch.ones(3)})
    assert whole[:2] == struct.pack("<H", size)
    (tmp_path / "w.safetensors").write_bytes(whole)
    assert next(iter(read_weights(tmp_path / "w.safetensors").values())).tolist() == [1, 1, 1]


@pytest.mark.parametrize("content", [b"", b"1234", struct.pack("<Q", 2**60) + b"{}", struct.pack("<Q", 2) + b"]]"])
def test_absurd_files_are_refused_before_memory_is_taken(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(DataError, match="safetensors"):
        read_weights(tmp_path / "w.safetensors")


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "w.json"
    write_json(path, {"old": 1})
    target = Path("/dev/full")
    monkeypatch.setattr(Path, "with_name", lambda self, name: target)
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    with pytest.raises(DataError, match="No space left"):
        write_atomically(path, b"x" * 10_000_000)
    assert read_json(path) == {"old": 1}


def test_json_errors_name_the_file(tmp_path):
    (tmp_path / "bad.json").write_text("{")
    for name in ("bad.json", "none.json"):
        with pytest.raises(DataError, match=name):
            read_json(tmp_path / name)
    with pytest.raises(DataError, match=r"nan\.json: not written"):
        write_json(tmp_path / "nan.json", {"a": float("nan")})


def test_digest_is_that_of_the_file(tmp_path):
    path = tmp_path / "w.safetensors"
    assert write_weights(path, {"a": torch.zeros(2)}) == hashlib.sha256(path.read_bytes()).hexdigest()
