"""Where nobody takes what is printed, the work is done all the same; no result is lost, and none is made up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.faults import finetuning, jcl, pretraining

FULL = Path("/dev/full")


def closed(*handles: int):
    """What a shell does for `>&-` and `2>&-`."""
    return lambda: [os.close(handle) for handle in handles]


def test_a_training_goes_on_when_its_reader_is_gone(store_path: Path, tmp_path: Path):
    reading, writing = os.pipe()
    work = jcl(*finetuning(store_path, tmp_path / "run", steps=30), stdout=writing, stderr=writing)
    os.close(writing)
    os.close(reading)
    assert work.wait(120) == 0
    assert (tmp_path / "run" / "model.json").is_file()
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 3


@pytest.mark.skipif(os.name != "posix", reason="descriptors are closed so on POSIX alone")
@pytest.mark.slow
@pytest.mark.parametrize("handles", [(1,), (2,), (0, 1, 2)])
def test_a_training_has_closed_outputs(store_path: Path, tmp_path: Path, handles: tuple[int, ...]):
    begun = jcl(*pretraining(store_path, tmp_path / "run", steps=12), preexec_fn=closed(*handles))
    begun.communicate(timeout=120)
    assert begun.returncode == 0
    assert (tmp_path / "run" / "model.json").is_file()


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_what_only_prints_is_no_success_on_a_full_disk():
    with FULL.open("wb") as full:
        work = jcl("methods", stdout=full)
        said = work.communicate(timeout=60)[1].decode()
    assert work.returncode == 3
    assert said.count("\n") == 1
    assert "No space left" in said


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
@pytest.mark.slow
def test_a_training_on_a_full_disk_for_its_output(store_path: Path, tmp_path: Path):
    with FULL.open("wb") as full:
        assert jcl(*finetuning(store_path, tmp_path / "run", steps=12), stdout=full, stderr=full).wait(120) == 0
    assert (tmp_path / "run" / "model.json").is_file()


@pytest.mark.slow
def test_two_processes_go_on_when_their_reader_is_gone(store_path: Path, tmp_path: Path):
    reading, writing = os.pipe()
    given = finetuning(store_path, tmp_path / "run", steps=12, more=("--devices", "cpu:2"))
    work = jcl(*given, stdout=writing, stderr=writing)
    os.close(writing)
    os.close(reading)
    assert work.wait(240) == 0
    assert (tmp_path / "run" / "model.json").is_file()


def test_head_takes_what_it_wants():
    reading, writing = os.pipe()
    listing = jcl("methods", stdout=writing)
    os.close(writing)
    os.close(reading)
    assert listing.communicate(timeout=60)[1] == b""
    assert listing.returncode == 0


def test_no_file_gets_the_number_of_a_closed_output(tmp_path: Path):
    code = (
        "import os; os.close(2); from jcl.parallel.output import steady_output; steady_output(); "
        "file = open('new', 'w'); print(file.fileno())"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True)
    assert int(shown.stdout) > 2
