"""Commands of a comparison: run once, measured, and begun anew when they were interrupted."""

import json
import sys
from pathlib import Path

import pytest
from benchmarks.peers.nnunet import is_there
from benchmarks.peers.work import Ledger

APPEND = "import sys; print('said'); open(sys.argv[1], 'a').write('x')"


def test_what_is_finished_is_not_run_again(tmp_path: Path):
    made = tmp_path / "made"
    took = Ledger(tmp_path).run("it", [sys.executable, "-c", APPEND, made], makes=[made])
    assert Ledger(tmp_path).run("it", [sys.executable, "-c", APPEND, made], makes=[made]) == took
    assert made.read_text() == "x"
    assert (tmp_path / "logs" / "it.log").read_text() == "said\n"
    assert json.loads((tmp_path / "took.json").read_text())["it"]["core_minutes"] == took.core_minutes > 0


def test_what_has_gone_is_made_again(tmp_path: Path):
    made = tmp_path / "made"
    Ledger(tmp_path).run("it", [sys.executable, "-c", APPEND, made], makes=[made])
    made.unlink()
    Ledger(tmp_path).run("it", [sys.executable, "-c", APPEND, made], makes=[made])
    assert made.read_text() == "x"


def test_what_an_interrupted_run_left_is_removed_first(tmp_path: Path):
    made = tmp_path / "folder"
    made.mkdir()
    (made / "left").touch()
    script = "import os, sys; assert not os.path.exists(sys.argv[1]); os.mkdir(sys.argv[1])"
    Ledger(tmp_path).run("it", [sys.executable, "-c", script, made], makes=[made])
    assert list(made.iterdir()) == []


def test_a_failure_is_told_and_not_kept(tmp_path: Path):
    with pytest.raises(SystemExit, match=r"ended with 3; see .*it\.log"):
        Ledger(tmp_path).run("it", [sys.executable, "-c", "raise SystemExit(3)"])
    assert "it" not in Ledger(tmp_path).done


def test_waiting_is_no_processor_time(tmp_path: Path):
    took = Ledger(tmp_path).run("wait", ["sleep", "0.5"])
    assert took.core_minutes < took.minutes / 2


def test_processor_time_of_all_that_a_command_starts_counts(tmp_path: Path):
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"
    assert Ledger(tmp_path).run("nested", [sys.executable, "-c", outer]).core_minutes * 60 >= 0.3


def test_a_command_has_the_cores_and_variables_it_is_given(tmp_path: Path):
    said = "import os; print(len(os.sched_getaffinity(0)), os.environ['OMP_NUM_THREADS'], os.environ['MINE'])"
    Ledger(tmp_path, cores=1).run("it", [sys.executable, "-c", said], environment={"MINE": "yes"})
    assert (tmp_path / "logs" / "it.log").read_text() == "1 1 yes\n"


def test_nnunet_is_known_by_its_command(tmp_path: Path):
    assert not is_there(None)
    assert not is_there(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nnUNetv2_train").touch()
    assert is_there(tmp_path)
