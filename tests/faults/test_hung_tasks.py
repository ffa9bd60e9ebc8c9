"""Work that hangs, fails or is killed ends, is told and takes nothing else along; nothing outlives a command."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE

import pytest

from jcl.benchmark.folder import DONE, FAILED, LOG, RUN
from support.clusters import end, wait_for
from support.hangs import family, is_alive, preparing
from support.scans import write_volumes
from support.tinyrecipes import tiny_file

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here"),
    pytest.mark.slow,
    pytest.mark.timeout(600),
]

SMALL = (
    ("run_folds = [0, 1]", "run_folds = [0]"),
    ("patients = [1, 2]", "patients = [1]"),
    ('methods = ["Random", "JCL", "MoCo"]', 'methods = ["MoCo", "Random"]'),
    ('methods = ["JCL"]', 'methods = ["Random"]'),
    ("patients = [2]", "patients = [1]"),
)
"""Of the tiny recipe's tasks: a pre-training, its fine-tuning, and one of random weights."""

ENOUGH = 300
"""Seconds for what takes some, on a busy machine."""


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("hung")
    write_volumes(base / "scans")
    return base


def recipe_of(folder: Path, way: str) -> Path:
    """The pre-training behaves in a way of `support.hangs`."""
    own = f'method = "support.hangingmethod:Hangs"\nmethod_settings = {{ way = "{way}" }}'
    return tiny_file(folder, *SMALL, ('method = "moco"', own))


@contextmanager
def benchmark(recipe: Path, scans: Path, *more: object) -> Generator[subprocess.Popen[str]]:
    """The command; nothing that it has started is left behind the block."""
    folder = recipe.parent
    (folder / "begun").mkdir(exist_ok=True)
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "JCL_BEGUN": str(folder / "begun"), "OMP_NUM_THREADS": "1"}
    words = ["benchmark", recipe, "--out", folder / "bench", "--data", scans, "--trust-code", *more]
    words = [sys.executable, "-m", "jcl", *map(str, words)]
    with subprocess.Popen(words, stderr=PIPE, stdout=PIPE, text=True, env=environment) as process:
        try:
            yield process
        finally:
            end(process)


def hangs_in(folder: Path) -> bool:
    return any((folder / "begun").iterdir())


def ends(process: subprocess.Popen[str], number: int, seconds: float) -> str:
    """Send a signal; returns what was said, once the command and all that it has started have ended in time."""
    all_of_them = family(process)
    begun = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=ENOUGH)
    assert time.monotonic() - begun < seconds + 30, said  # a busy machine
    wait_for(lambda: not any(map(is_alive, all_of_them)), 30)
    return said


@pytest.mark.parametrize(
    ("way", "workers", "number"),
    [("ignores", 1, signal.SIGINT), ("holds", 2, signal.SIGTERM), ("stuck", 0, signal.SIGINT)],
)
def test_a_signal_ends_a_benchmark_of_which_a_task_hangs(
    scans: Path, tmp_path: Path, way: str, workers: int, number: int
):
    with benchmark(recipe_of(tmp_path, way), scans, "--workers", workers) as process:
        wait_for(lambda: hangs_in(tmp_path) or process.poll() is not None, ENOUGH)
        said = ends(process, number, 20)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("jcl: error:")]
    assert "did not save in time; the same command goes on" in line if workers else "interrupted" in line
    assert not list(tmp_path.glob(f"bench/tasks/*/{FAILED}"))


@pytest.mark.parametrize("way", ["ignores", "holds"])
def test_no_task_outlives_a_benchmark_that_is_killed(scans: Path, tmp_path: Path, way: str):
    with benchmark(recipe_of(tmp_path, way), scans, "--workers", 2) as process:
        wait_for(lambda: hangs_in(tmp_path) or process.poll() is not None, ENOUGH)
        all_of_them = family(process)
        process.kill()
        process.wait()
        wait_for(lambda: not any(map(is_alive, all_of_them)), 30)
    assert len(all_of_them) > 2


@pytest.mark.parametrize(
    ("way", "workers", "number"),
    [("ignores", 2, signal.SIGTERM), ("holds", 2, signal.SIGINT), ("stuck", 1, signal.SIGTERM)],
)
def test_a_signal_ends_a_preparation_of_which_a_case_hangs(
    scans: Path, tmp_path: Path, way: str, workers: int, number: int
):
    cases = tmp_path / "store" / "cases"
    with preparing(tmp_path, way, scans / "scans", "--out", tmp_path / "store", "--workers", workers) as process:
        try:
            wait_for(lambda: cases.is_dir() or process.poll() is not None, ENOUGH)
            time.sleep(3)  # so that the workers are at it
            said = ends(process, number, 5)
        finally:
            end(process)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "jcl: error: interrupted"
    assert "Traceback" not in said


@pytest.mark.long
def test_a_task_that_takes_too_long_is_ended_and_the_others_go_on(scans: Path, tmp_path: Path):
    """Two minutes are plenty for the others, also where the machine is busy."""
    with benchmark(recipe_of(tmp_path, "holds"), scans, "--workers", 2, "--task-timeout", 2) as process:
        _, said = process.communicate(timeout=300)
    assert process.returncode == 1, said
    (told,) = [line for line in said.splitlines() if line.startswith("ball-moco: ")]
    assert "it took longer than 2 min (--task-timeout)" in told
    assert "1 of 3 runs failed and 1 that need them were not begun" in said, said
    (failed,) = tmp_path.glob(f"bench/tasks/*/{FAILED}")
    assert failed.parent.name.startswith("pretrain-")
    assert json.loads(failed.read_text())["error"].startswith("it took longer than 2 min")
    assert [path.parent.name[:8] for path in tmp_path.glob(f"bench/tasks/*/{DONE}")] == ["finetune"]


def test_what_always_fails_is_told_once_with_its_log_and_tried_again_by_the_same_command(scans: Path, tmp_path: Path):
    recipe = recipe_of(tmp_path, "fails")
    for runs in (1, 2):
        with benchmark(recipe, scans, "--workers", 1, "--retries", 2) as process:
            _, said = process.communicate(timeout=300)
        assert process.returncode == 1, said
        (told,) = [line for line in said.splitlines() if line.startswith("ball-moco: ")]
        assert "RuntimeError: it never works (will be tried again; log: " in told
        (last,) = [line for line in said.splitlines() if line.startswith("jcl: error: ")]
        assert "1 of 3 runs failed and 1 that need them were not begun, the first ball-moco: " in last
        assert last.endswith("the same command tries them again")
        log = Path(re.findall(r"log: (.*)\)", told)[0])
        assert log.name == LOG
        assert log.read_text().count("Traceback") == 3 * runs


def test_a_worker_that_is_killed_is_told_and_its_training_goes_on_from_its_checkpoint(scans: Path, tmp_path: Path):
    steps = ("[finetune]\nsteps = 3", "[finetune]\nsteps = 400\ncheckpoint_minutes = 0.005")
    recipe = tiny_file(tmp_path, *SMALL, steps, ('["MoCo", "Random"]', '["Random"]'))
    with benchmark(recipe, scans, "--workers", 1) as process:
        run = lambda: next(tmp_path.glob(f"bench/tasks/*/{RUN}"), Path("none"))  # noqa: E731
        wait_for(lambda: any(run().glob("checkpoints/step-*")) or process.poll() is not None, ENOUGH)
        worker = json.loads((run() / ".lock.json").read_text())["pid"]
        os.kill(worker, signal.SIGKILL)
        saved = max(int(path.name.split("-")[1]) for path in run().glob("checkpoints/step-*"))
        _, said = process.communicate(timeout=300)
    assert worker != process.pid
    assert process.returncode == 0, said
    told = "the process that ran it died (killed; memory may have run out) (will be tried again; log: "
    assert said.count(told) == 1
    (done,) = tmp_path.glob(f"bench/tasks/*/{DONE}")
    assert json.loads(done.read_text())["attempt"] == 2
    assert not (done.parent / FAILED).exists()
    logged = [json.loads(line)["step"] for line in (done.parent / RUN / "log.jsonl").read_text().splitlines()]
    assert logged[-1] == 400
    assert saved > 0
    assert (done.parent / LOG).read_text().count("the process that ran it died") == 1
