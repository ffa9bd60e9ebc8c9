"""The private folder: nobody else opens it, it goes, and what a killed server left goes too."""

import os
import stat
import tempfile
from pathlib import Path

import filelock
import pytest

from jcl.serve.room import PREFIX, clear_scratch, private_room, scratch_files, scratch_of


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_it_is_private_and_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    with private_room() as room:
        assert stat.S_IMODE(room.stat().st_mode) == 0o700
        assert room.parent == tmp_path
        (room / "job").mkdir()
        (room / "job" / "scan").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_temporary_files_lie_in_it(tmp_path: Path) -> None:
    with private_room() as room:
        with scratch_files(room), tempfile.TemporaryDirectory() as name:
            assert Path(name).parent == scratch_of(room)
        (scratch_of(room) / "left").write_text("x")
        (scratch_of(room) / "folder").mkdir()
        clear_scratch(room)
        assert list(scratch_of(room).iterdir()) == []
    assert tempfile.tempdir == str(tmp_path)


def test_what_a_killed_server_left_is_removed_and_that_of_another_stays(tmp_path: Path) -> None:
    left, used, new = (tmp_path / f"{PREFIX}{name}" for name in ("left", "used", "new"))
    for folder in (left, used, new):
        (folder / "job").mkdir(parents=True)
        (folder / "job" / "scan").write_text("x")
    for folder in (left, used):
        (folder / "lock").touch()
    with filelock.FileLock(used / "lock"), private_room():
        assert not left.exists()
        assert (used / "job" / "scan").exists()
        assert (new / "job" / "scan").exists()  # without a lock: it has just been made
        os.utime(new, (1, 1))
        with private_room():
            assert not new.exists()


def test_a_link_or_a_file_of_that_name_is_left_alone(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "thesis").write_text("x")
    (own / "lock").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(own)
    (tmp_path / f"{PREFIX}file").write_text("x")
    with private_room():
        pass
    assert (own / "thesis").exists()
    assert (tmp_path / f"{PREFIX}file").exists()
