"""A worker and what it has started end with its parent, whatever runs there, and however the parent ended."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.clusters import wait_for
from support.hangs import of_group

SCRIPT = """
import os, subprocess, sys, time
from pathlib import Path
sys.path[:0] = {path!r}
from jcl.parallel.pool import ProcessPool
from support import hangs

def begin(begun, way):
    subprocess.Popen(["sleep", "1000"])
    begun.write_text(str(os.getpid()))
    getattr(hangs, way)()

if __name__ == "__main__":
    pool = ProcessPool([int], {modules!r})
    pool.start("x", begin, Path(sys.argv[1]), sys.argv[2])
    time.sleep(1000)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems leave it to a thread")
@pytest.mark.parametrize("modules", [pytest.param([], id="spawn"), pytest.param(["jcl.errors"], id="forkserver")])
@pytest.mark.parametrize("way", ["ignores", "holds"])
def test_a_worker_that_hangs_ends_with_its_parent(tmp_path: Path, modules: list[str], way: str):
    begun, script = tmp_path / "begun", tmp_path / "script.py"
    script.write_text(SCRIPT.format(path=[str(Path(__file__).parents[1]), *sys.path], modules=modules))
    with subprocess.Popen([sys.executable, str(script), str(begun), way]) as process:
        wait_for(lambda: begun.exists() and begun.read_text() != "", 100)
        worker = int(begun.read_text())
        assert len(of_group(worker)) == 2
        process.kill()
    wait_for(lambda: not of_group(worker), 10)
