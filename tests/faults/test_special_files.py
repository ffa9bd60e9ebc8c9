"""What is no regular file, or leads elsewhere: it is left out and named, nothing waits for it, nothing else is read."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from jcl.cli.main import main
from jcl.data.folders import walk
from jcl.data.imagefile import readable
from jcl.data.leftout import LeftOut
from jcl.data.splits import read_split
from jcl.errors import DataError, JclError
from jcl.files import read_json
from jcl.schema import read_toml
from jcl.training.checkpoint import read_weights
from support.thresholds import make_recipe_of, threshold_network, write_run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes and devices of Linux")


@pytest.fixture(autouse=True)
def within_a_minute() -> Iterator[None]:
    """A test that waits for a pipe fails instead."""
    signal.alarm(60)
    yield
    signal.alarm(0)


def scans(folder: Path, suffix: str = ".nii.gz") -> Path:
    folder.mkdir()
    for seed, name in enumerate(("anna", "ben")):
        array = np.random.default_rng(seed).normal(100, 20, (4, 24, 20)).astype(np.int16)
        sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / f"{name}{suffix}"))
    return folder


def special(folder: Path) -> list[str]:
    """Names of what was made in a folder that nothing may open."""
    for name in ("pipe.nii.gz", "pipe.mhd", "pipe", "pipe.dcm"):
        os.mkfifo(folder / name)
    (folder / "zero.nii.gz").symlink_to("/dev/zero")
    (folder / "zero").symlink_to("/dev/zero")
    (folder / "loop.nii.gz").symlink_to("loop.nii.gz")
    here = os.open(".", os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:
        os.chdir(folder)
        made.bind("socket.nii.gz")
        os.fchdir(here)
    os.close(here)
    return ["loop.nii.gz", "pipe", "pipe.dcm", "pipe.mhd", "pipe.nii.gz", "socket.nii.gz", "zero", "zero.nii.gz"]


def test_a_walk_leaves_them_out_and_names_them(tmp_path: Path):
    source = scans(tmp_path / "in")
    made = special(source)
    (source / "up").symlink_to("..")
    left_out = LeftOut()
    assert sorted({path.name for path in walk(source, left_out)}) == ["anna.nii.gz", "ben.nii.gz"]
    assert sorted({path.name for paths in left_out.named.values() for path in paths}) == made
    assert any("a link that leads to itself; remove it" in line for line in left_out.lines(source))
    assert any("a pipe, a socket or a device; remove it" in line for line in left_out.lines(source))


def test_prepare_and_verify_do_not_wait_for_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source, store = scans(tmp_path / "in"), str(tmp_path / "store")
    special(source)
    assert main(["prepare", str(source), "--out", store, "--workers", "1"]) == 0
    said = capsys.readouterr().err
    assert "2 cases" in said
    assert "a pipe, a socket or a device; remove it" in said
    (source / "anna.nii.gz").unlink()
    os.mkfifo(source / "anna.nii.gz")
    (source / "carl.nii.gz").write_bytes((source / "ben.nii.gz").read_bytes())
    (source / "ben.nii.gz").write_bytes(b"changed")
    assert main(["verify", store, "--source", str(source)]) == 3
    said = capsys.readouterr().out
    assert "anna.nii.gz: is a pipe, a socket or a device, where a file is needed; restore it" in said
    assert "ben.nii.gz: has changed since the store was made" in said
    assert "1 image files are in no case" in said
    assert "carl.nii.gz" in said


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", ["store.json", "cases/anna/case.json", "cases/anna/images.slices"])
def test_files_of_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, kind: str):
    store = tmp_path / "store"
    assert main(["prepare", str(scans(tmp_path / "in")), "--out", str(store), "--workers", "1"]) == 0
    (store / name).unlink()
    if kind == "pipe":
        os.mkfifo(store / name)
    else:
        (store / name).symlink_to("/dev/zero")
    capsys.readouterr()
    assert main(["verify", str(store)]) == 3
    said = "".join(capsys.readouterr())
    assert "is a pipe, a socket or a device, where a file is needed" in said or name == "store.json"
    assert "fault of jcl" not in said


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", ["run.json", "model.json", "model.safetensors"])
def test_files_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, kind: str):
    run = write_run(tmp_path / "run", threshold_network(0.5), make_recipe_of({1: "ball"}))
    (run / name).unlink()
    if kind == "pipe":
        os.mkfifo(run / name)
    else:
        (run / name).symlink_to("/dev/zero")
    assert main(["predict", str(run), str(scans(tmp_path / "in")), "--out", str(tmp_path / "out")]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "run" in line


@pytest.mark.parametrize("kind", ["pipe", "device", "link"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["pretrain", "no", "--out", "new", "--config", "it"],
        ["prepare", "in", "--out", "new", "--dataset", "it.toml"],
        ["prepare", "it", "--out", "new"],
        ["prepare", "in", "--out", "it"],
        ["predict", "it", "in", "--out", "new"],
        ["benchmark", "it.toml", "--data", "in", "--out", "new"],
        ["verify", "it"],
    ],
)
def test_given_on_the_command_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    arguments: list[str],
):
    monkeypatch.chdir(tmp_path)
    scans(tmp_path / "in")
    for name in ("it", "it.toml"):
        if kind == "pipe":
            os.mkfifo(name)
        else:
            Path(name).symlink_to("/dev/zero" if kind == "device" else name)
    assert main(arguments) in (2, 3)
    said = capsys.readouterr().err
    assert said.count("jcl: error:") == 1
    assert "Traceback" not in said
    assert "fault of jcl" not in said


def test_readers_of_files_refuse_a_pipe(tmp_path: Path):
    path = tmp_path / "it"
    os.mkfifo(path)
    for read in (read_json, read_split, read_toml, read_weights):
        with pytest.raises(JclError, match="is a pipe, a socket or a device, where a file is needed"):
            read(path)


def link_to_voxels(tmp_path: Path) -> tuple[Path, Path]:
    """A header, and its voxels outside of its folder, to which a link leads."""
    folder = scans(tmp_path / "in", ".mhd")
    away = (folder / "anna.raw").rename(tmp_path / "secret.raw")
    (folder / "anna.raw").symlink_to(away)
    return folder / "anna.mhd", away


def test_voxels_outside_of_the_folder_are_not_read_through_a_link(tmp_path: Path):
    path, _ = link_to_voxels(tmp_path)
    with pytest.raises(DataError, match="a link to a file outside of its folder"), readable(path):
        pass
    with readable(path.with_name("ben.mhd")):
        pass


def test_voxels_that_git_annex_keeps_are_read(tmp_path: Path):
    path, away = link_to_voxels(tmp_path)
    objects = tmp_path / ".git" / "annex" / "objects" / "k"
    objects.mkdir(parents=True)
    kept = away.rename(objects / "k")
    path.with_name("anna.raw").unlink()
    path.with_name("anna.raw").symlink_to(os.path.relpath(kept, path.parent))
    with readable(path):
        pass


def test_voxels_that_are_a_pipe(tmp_path: Path):
    path, _ = link_to_voxels(tmp_path)
    path.with_name("anna.raw").unlink()
    os.mkfifo(path.with_name("anna.raw"))
    with pytest.raises(DataError, match="is no regular file"), readable(path):
        pass


def test_voxels_beside_a_header_are_vouched_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source, store = scans(tmp_path / "in", ".mhd"), str(tmp_path / "store")
    assert main(["prepare", str(source), "--out", store, "--workers", "1"]) == 0
    assert main(["verify", store, "--source", str(source)]) == 0
    changed = bytearray((source / "ben.raw").read_bytes())
    changed[100] ^= 1
    (source / "ben.raw").write_bytes(changed)
    capsys.readouterr()
    assert main(["verify", store, "--source", str(source)]) == 3
    assert "ben.raw: has changed since the store was made" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["deep.json", "deep.toml", "digits.toml"])
def test_nested_too_deeply_or_digits_without_end(tmp_path: Path, name: str):
    path = tmp_path / name
    path.write_text({"deep.json": '{"a":' * 50_000, "deep.toml": "a = " + "[" * 50_000}.get(name, "a = " + "1" * 9_000))
    for read in (read_json, read_split) if name.endswith("json") else (read_toml,):
        with pytest.raises(JclError) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
