"""A function over items in processes: each has its result, and a process that dies costs its own item only."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from jcl.errors import DataError
from jcl.spread import InProcesses, Spread


def square_or_die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def square_or_raise(number: int) -> int:
    if number == 3:
        raise DataError("three")
    return number * number


def dead(number: int) -> int:
    return -1


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_item_only():
    found = dict(InProcesses(2).run(square_or_die, list(range(7)), dead))
    assert found == {number: -1 if number == 3 else number * number for number in range(7)}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_the_function_raises_is_raised(workers: int):
    with pytest.raises(DataError, match="three"):
        list(InProcesses(workers).run(square_or_raise, list(range(7)), dead))


def test_one_worker_is_this_process():
    def process_of(number: int) -> int:  # a function that could not be sent to another
        return os.getpid()

    spread: Spread = InProcesses(1)
    items: Sequence[int] = [1, 2]
    assert list(spread.run(process_of, items, dead)) == [(number, os.getpid()) for number in items]


@pytest.mark.slow
def test_processes_start_where_the_temporary_folder_takes_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its name is too long for a socket; in a Python of its own, whose server is not running yet."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nfrom jcl.spread import InProcesses\nif __name__ == '__main__':\n"
        "    spread = InProcesses(2, ['jcl.errors'])\n"
        "    print(sorted(dict(spread.run(abs, [-1, -2, -3], abs)).values()), spread.context.get_start_method())\n"
    )
    for temporary, method in [(str(folder), "spawn"), ("/tmp", "forkserver")]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": temporary}
        done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == f"[1, 2, 3] {method}\n"
