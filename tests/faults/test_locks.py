"""One writer a folder: the second is told who the first is, and a killed one is in nobody's way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jcl.config import FinetuneConfig
from jcl.errors import UsageError
from jcl.files import WriteError
from jcl.locks import HOLDER, LOCK, locked, locked_file
from jcl.stages.finetune import finetune
from support.faults import finetuning, jcl

SMALL = {"width": 2, "batch_size": 2, "kernels": "off", "precision": "float32", "devices": "cpu"}

HOLD = "import sys, time; from pathlib import Path; from jcl.locks import locked\n" + (
    "with locked(Path(sys.argv[1])):\n    Path(sys.argv[1], 'begun').touch(); print('held', flush=True); time.sleep(99)"
)


@pytest.fixture
def held(tmp_path: Path):
    """A folder that another process holds, and that process."""
    folder = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield folder, process
        process.kill()


def test_the_second_is_told_who_the_first_is(held, store_path: Path):
    folder, process = held
    with pytest.raises(UsageError, match=rf"out: .*process {process.pid} of .*, since 2.* writes here; wait"):
        finetune(FinetuneConfig(store=store_path, init="none", out=folder, steps=1, **SMALL))


def test_a_killed_one_is_followed_at_once(held, capsys: pytest.CaptureFixture[str]):
    folder, process = held
    process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    process.wait()
    assert (folder / HOLDER).exists()
    with locked(folder):
        assert json.loads((folder / HOLDER).read_text())["pid"] == os.getpid()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"process {process.pid}" in said
    assert sorted(path.name for path in folder.iterdir()) == ["begun"]


def test_what_another_machine_holds_is_left_to_it(tmp_path: Path):
    (tmp_path / HOLDER).write_text(json.dumps({"pid": 1, "host": "elsewhere", "boot": "b", "since": "s"}))
    with pytest.raises(UsageError, match=r"of elsewhere, .*delete .*\.lock\.json"), locked(tmp_path):
        pytest.fail("taken")
    (tmp_path / HOLDER).unlink()
    with locked(tmp_path):
        pass


def test_a_machine_that_was_started_anew_is_the_same(tmp_path: Path):
    with locked(tmp_path):
        note = json.loads((tmp_path / HOLDER).read_text())
    (tmp_path / HOLDER).write_text(json.dumps({**note, "boot": "an earlier one"}))
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("spoilt", [b"", b"{", b"[1]", b"\xff"])
def test_a_note_that_was_cut_short_is_no_ones(tmp_path: Path, spoilt: bytes):
    (tmp_path / HOLDER).write_bytes(spoilt)
    with locked(tmp_path):
        pass


def test_nothing_is_left_where_nothing_was_written(tmp_path: Path):
    with pytest.raises(KeyError), locked(tmp_path / "a" / "b"):
        raise KeyError
    assert not [*tmp_path.iterdir()]
    with locked_file(tmp_path / "page.html"):
        (tmp_path / "page.html").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_file_in_the_way_is_one_line(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="cannot be written"), locked(tmp_path / "file" / "run"):
        pass


def test_a_folder_is_held_while_it_is(tmp_path: Path):
    with locked(tmp_path):
        assert (tmp_path / LOCK).exists()
        with pytest.raises(UsageError, match="writes here"), locked(tmp_path):
            pytest.fail("held twice")


@pytest.mark.slow
def test_resume_after_kill_9_and_not_beside_another(store_path: Path, tmp_path: Path):
    given = finetuning(store_path, tmp_path / "run", steps=60)
    first = jcl(*given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "run" / "log.jsonl").exists():
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # so that it does not end before the second has looked
    second = jcl(*given, "--resume")
    said = second.communicate(timeout=60)[1].decode()
    assert second.returncode == 2
    assert f"process {first.pid} of" in said
    first.kill()
    first.wait()
    third = jcl(*given, "--resume")
    third.communicate(timeout=120)
    assert third.returncode == 0
