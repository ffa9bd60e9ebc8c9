"""Tasks in processes: those asked to stop save first; and what a task's process finds set before it begins."""

import json
import os
import time
from collections.abc import Sized
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock

from jcl.benchmark import executor as module
from jcl.benchmark.executor import PoolExecutor, pool_for
from jcl.benchmark.folder import DONE, FAILED, LOCK, LOG, RUN, task_folder
from jcl.benchmark.perform import Outcome
from jcl.benchmark.plan import Task
from jcl.config import BenchmarkConfig
from jcl.errors import UsageError
from jcl.parallel.pool import Ended, InProcessPool, Late, Lost, ProcessPool
from support.benchmark_folder import Bench, make_bench

ENDLESS = ("[finetune]\nsteps = 3", "[finetune]\nsteps = 100000\ncheckpoint_minutes = 0.01")
"""Fine-tunings that would take hours."""

CONFIG = partial(BenchmarkConfig, recipe=Path("tiny.toml"), out=Path("out"))


def begun(bench: Bench, label: str) -> Path:
    """The run folder of a task, once it has a checkpoint."""
    run = task_folder(bench.out, bench.task(label).id) / RUN
    deadline = time.monotonic() + 200
    while not list(run.glob("checkpoints/step-*")):
        assert time.monotonic() < deadline, "the training did not begin"
        time.sleep(0.05)
    return run


@pytest.mark.slow
def test_those_asked_to_stop_save_first(scans: Path, tmp_path: Path):
    bench = make_bench(scans, tmp_path, ENDLESS)
    task = bench.task("ball-random-m1-f0-s0")
    with pool_for(CONFIG(workers=2)) as pool:
        executor = PoolExecutor(pool, bench.out, bench.stores)
        assert executor.wait(0.1) == []
        executor.start(task, 1)
        run = begun(bench, task.label)
        executor.stop()
        assert executor.wait(200) == [(task, Outcome("interrupted"))]
    steps = max(int(path.name.removeprefix("step-")) for path in run.glob("checkpoints/step-*"))
    lines = (run / "log.jsonl").read_text().splitlines()
    assert f'"step": {steps}' in lines[-1]


class Ending:
    """A pool in which each call ends as it is told to."""

    slots = 1

    def __init__(self, future: "Future[Outcome]") -> None:
        self.future, self.name = future, None
        self.running: Sized = [1]

    def start(self, name: object, *_: object) -> None:
        self.name = name

    def wait(self, seconds: float | None = None) -> list[Ended]:
        return [(self.name, self.future)]

    def stop(self) -> None:
        pass


def end_of(out: Path, error: Exception | None, *, stopping: bool = False) -> Outcome:
    """What becomes of a task whose call ends with an error, or is taken back."""
    future: Future[Outcome] = Future()
    future.set_exception(error) if error else future.cancel()
    executor = PoolExecutor(Ending(future), out, {})
    executor.start(TASK, 2)
    if stopping:
        executor.stop()
    ((task, outcome),) = executor.wait(1)
    assert task is TASK
    return outcome


TASK = Task(id="id", kind="pretrain", label="x", key="k", code="c", settings={}, needs=None, steps=1)

LATE = "it took longer than 5 min (--task-timeout) and was ended; with more time it goes on from its last checkpoint"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Lost("it died"), Outcome("lost", "it died")),
        (Late("it took longer than 5 min"), Outcome("failed", LATE, final=True)),
        (UsageError("another version"), Outcome("failed", "another version", final=True)),
        (OSError(), Outcome("failed", "OSError")),
    ],
)
def test_a_task_whose_process_gives_no_answer_is_written_down(tmp_path: Path, error: Exception, outcome: Outcome):
    assert end_of(tmp_path, error) == outcome
    folder = task_folder(tmp_path, TASK.id)
    record = json.loads((folder / FAILED).read_text())
    assert (record["error"], record["attempt"]) == (outcome.error, 2)
    assert (folder / LOG).read_text() == f"{outcome.error}\n"


def test_a_task_that_was_done_when_its_process_died_is_done(tmp_path: Path):
    folder = task_folder(tmp_path, TASK.id)
    folder.mkdir(parents=True)
    (folder / DONE).write_text("{}")
    assert end_of(tmp_path, Lost("it died")).status == "done"
    assert not (folder / FAILED).exists()


def test_a_task_that_another_process_has_by_now_is_left_to_it(tmp_path: Path):
    folder = task_folder(tmp_path, TASK.id)
    folder.mkdir(parents=True)
    with FileLock(folder / LOCK):
        assert end_of(tmp_path, Lost("it died")) == Outcome("lost", "it died")
    assert [path.name for path in folder.iterdir()] == [LOCK]


def test_a_process_that_dies_when_all_are_stopped_is_no_failure(tmp_path: Path):
    assert end_of(tmp_path, Lost("it died"), stopping=True) == Outcome("lost", "it died")
    assert not (tmp_path / "tasks").exists()


def test_a_call_that_was_taken_back(tmp_path: Path):
    assert end_of(tmp_path, None) == Outcome("interrupted")


@pytest.mark.parametrize(("minutes", "seconds"), [(None, float("inf")), (0.5, 30)])
def test_how_long_a_run_may_take(minutes: float | None, seconds: float):
    with pool_for(CONFIG(workers=1, task_timeout=minutes)) as pool:
        assert isinstance(pool, ProcessPool)
        assert pool.seconds == seconds


@pytest.mark.parametrize(
    ("settings", "gpus", "slots"),
    [({"workers": 3}, 2, 3), ({}, 5, 5), ({"threads": 2}, 0, 4), ({"threads": 99}, 0, 1)],
)
def test_one_process_a_gpu_or_for_its_share_of_the_cores(settings, gpus: int, slots: int, monkeypatch):
    monkeypatch.setattr(module, "_gpus", lambda: gpus)
    monkeypatch.setattr(module, "cores", lambda: 8)
    with pool_for(CONFIG(**settings)) as pool:
        assert isinstance(pool, ProcessPool)
        assert pool.slots == slots


def test_no_processes():
    with pool_for(CONFIG(workers=0)) as pool:
        assert isinstance(pool, InProcessPool)


def test_a_cluster_with_no_workers():
    with pytest.raises(UsageError, match="--workers 0 does not go with --ray"), pool_for(CONFIG(workers=0, ray="auto")):
        pass


@pytest.mark.parametrize(
    ("seen", "gpu", "expected"), [(None, None, None), (None, 1, "1"), ("5,7", 1, "7"), ("", 0, "0"), ("5", None, "5")]
)
def test_a_process_has_one_gpu_of_those_seen_here(seen: str | None, gpu: int | None, expected: str | None, monkeypatch):
    monkeypatch.setattr(module, "set_threads", lambda threads: None)  # see test_ray_cluster.py
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen or "")
    if seen is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    module._set_up_worker(2, gpu)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == expected
