"""Processes that work on tasks: one that dies takes only its own along, and those asked to stop save first."""

import os
import signal
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from benchmark_folder import Bench, make_bench
from jcl.benchmark.folder import RUN, task_folder
from jcl.benchmark.perform import Outcome
from jcl.benchmark.plan import Task
from jcl.benchmark.workers import Workers

pytestmark = pytest.mark.slow

ENDLESS = ("[finetune]\nsteps = 3", "[finetune]\nsteps = 100000\ncheckpoint_minutes = 0.01")


@pytest.fixture
def endless(scans: Path, tmp_path: Path) -> Bench:
    """Fine-tunings that would take hours."""
    return make_bench(scans, tmp_path, ENDLESS)


@pytest.fixture
def workers(endless: Bench) -> Generator[Workers]:
    pool = Workers(endless.out, endless.stores, count=2, threads=1)
    yield pool
    for each in pool.pools:
        for process in list(each._processes.values()) if each else []:
            process.kill()
    pool.close()


def wait_for(workers: Workers, count: int) -> dict[str, Outcome]:
    ended: list[tuple[Task, Outcome]] = []
    deadline = time.monotonic() + 200
    while len(ended) < count and time.monotonic() < deadline:
        ended += workers.wait(0.2)
    return {task.label: outcome for task, outcome in ended}


def begun(bench: Bench, label: str) -> Path:
    """The run folder of a task, once it has a checkpoint."""
    run = task_folder(bench.out, bench.task(label).id) / RUN
    deadline = time.monotonic() + 200
    while not list(run.glob("checkpoints/step-*")):
        assert time.monotonic() < deadline, "the training did not begin"
        time.sleep(0.05)
    return run


A, B = "ball-random-m1-f0-s0", "ball-random-m2-f0-s0"


def test_a_killed_process_takes_only_its_task_along(endless: Bench, workers: Workers):
    workers.start(endless.task(A), 1)
    workers.start(endless.task(B), 1)
    begun(endless, A)
    begun(endless, B)
    first = workers.pools[0]
    assert first is not None
    os.kill(next(iter(first._processes)), signal.SIGKILL)
    ended = wait_for(workers, 1)
    assert {label: outcome.status for label, outcome in ended.items()} == {A: "lost"}
    assert [task.label for _, task in workers.running.values()] == [B]
    workers.start(endless.task(A), 2)  # in a new process, from its checkpoint
    workers.stop()
    # whichever of the two had not begun its training is gone too; B was training
    assert wait_for(workers, 2)[B].status == "interrupted"


def test_those_asked_to_stop_save_first(endless: Bench, workers: Workers):
    workers.start(endless.task(A), 1)
    run = begun(endless, A)
    workers.stop()
    assert wait_for(workers, 1) == {A: Outcome("interrupted")}
    steps = max(int(path.name.removeprefix("step-")) for path in run.glob("checkpoints/step-*"))
    lines = (run / "log.jsonl").read_text().splitlines()
    assert f'"step": {steps}' in lines[-1]
