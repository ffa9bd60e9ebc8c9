"""A power cut: what has its name is on the disk whole, since it was synced before it got it.

A machine cannot be switched off here, so that what is asked of the system is written down: what was synced, with how
many bytes, and what was renamed.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jcl.data.store_writing import write_case, write_manifest
from jcl.files import write_atomically, write_json
from jcl.training.checkpoint import Checkpointer
from jcl.training.optim import sgd
from jcl.training.run_folder import save_model


@dataclass(frozen=True)
class Synced:
    """A file or folder, by its number on the disk, and its bytes then."""

    number: int
    size: int


@dataclass(frozen=True)
class Named:
    """What a file or folder was renamed to."""

    path: Path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Synced | Named]:
    """What is asked of the system, in its order."""
    events: list[Synced | Named] = []
    sync = os.fsync

    def fsync(handle: int) -> None:
        sync(handle)
        events.append(Synced(os.fstat(handle).st_ino, os.fstat(handle).st_size))

    def noted(rename: Callable[..., None]) -> Callable[..., None]:
        def renamed(before: Any, after: Any, **how: Any) -> None:
            rename(before, after, **how)
            events.append(Named(Path(after)))

        return renamed

    monkeypatch.setattr(os, "fsync", fsync)
    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, noted(getattr(os, name)))
    return events


def as_synced(path: Path) -> Synced:
    """The event of a file that is synced whole."""
    return Synced(path.stat().st_ino, path.stat().st_size)


def folder_synced(path: Path, events: list[Synced | Named]) -> bool:
    """Whatever the size of a folder was then."""
    return path.stat().st_ino in [event.number for event in events if isinstance(event, Synced)]


def split_at(path: Path, events: list[Synced | Named]) -> tuple[list[Synced | Named], list[Synced | Named]]:
    """What was asked before something got its name, and after."""
    at = events.index(Named(path))
    return events[:at], events[at + 1 :]


def assert_lasting(path: Path, events: list[Synced | Named]) -> None:
    """A file was synced whole before it got its name, and the folder with its name after."""
    before, after = split_at(path, events)
    assert as_synced(path) in before, path
    assert folder_synced(path.parent, after), path


def test_a_file(asked, tmp_path: Path):
    write_atomically(tmp_path / "a", b"whole")
    write_json(tmp_path / "b.json", {"c": 1})
    for name in ("a", "b.json"):
        assert_lasting(tmp_path / name, asked)
    asked.clear()
    write_atomically(tmp_path / "a", b"another", sync=False)
    assert asked == [Named(tmp_path / "a")]


def test_a_checkpoint_and_the_final_weights(asked, tmp_path: Path):
    """All files of a checkpoint are on the disk before its folder has the name that makes it count."""
    network = torch.nn.Linear(3, 2)
    checkpointer = Checkpointer(
        tmp_path, network, sgd(network.parameters(), weight_decay=0), torch.Generator(), minutes=1
    )
    for step in (1, 2, 3):
        asked.clear()
        checkpointer.save(step)
        folder = tmp_path / "checkpoints" / f"step-{step:09d}"
        before, after = split_at(folder, asked)
        for name in ("model.safetensors", "state.safetensors", "state.json"):
            assert as_synced(folder / name) in before, name
        assert folder_synced(folder, before[-1:])
        assert folder_synced(folder.parent, after)
    save_model(tmp_path, network)
    for name in ("model.safetensors", "model.json"):
        assert_lasting(tmp_path / name, asked)
    assert asked.index(Named(tmp_path / "model.safetensors")) < asked.index(Named(tmp_path / "model.json"))


def test_a_store(asked, tmp_path: Path):
    """Every file of every case is on the disk before there is a manifest, which makes the store complete."""
    (tmp_path / "cases").mkdir()
    image = np.random.default_rng(0).random((1, 3, 8, 8), np.float32)
    labels = np.ones((3, 8, 8), np.uint8)
    named = {"patient": "p", "spacing": (1.0, 1.0, 1.0), "source": {"images": [], "label": []}, "classes": 1}
    records = [write_case(tmp_path, image, labels, case=case, **named) for case in ("a", "b", "c")]
    assert not any(isinstance(event, Synced) for event in asked)
    write_manifest(tmp_path, {"channels": 1, "padded": [8, 8], "classes": ["x"]}, records, [])
    before, _ = split_at(tmp_path / "store.json", asked)
    folders = sorted((tmp_path / "cases").iterdir())
    assert [folder.name for folder in folders] == ["a", "b", "c"]
    for folder in folders:
        files = sorted(folder.iterdir())
        assert [file.name for file in files] == ["case.json", "images.slices", "labels.slices"]
        assert all(as_synced(file) in before for file in files)
        assert folder_synced(folder, before)
    assert folder_synced(tmp_path / "cases", before)
    assert_lasting(tmp_path / "store.json", asked)
