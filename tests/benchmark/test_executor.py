"""Tasks in processes: those asked to stop save first; and what a task's process finds set before it begins."""

import os
import time
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import pytest

from jcl.benchmark import executor as module
from jcl.benchmark.executor import PoolExecutor, pool_for
from jcl.benchmark.folder import RUN, task_folder
from jcl.benchmark.perform import Outcome
from jcl.config import BenchmarkConfig
from jcl.errors import UsageError
from jcl.parallel.pool import InProcessPool, Lost, ProcessPool
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


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Lost("it died"), Outcome("lost", "it died")),
        (UsageError("another version"), Outcome("failed", "another version", final=True)),
        (OSError(), Outcome("failed", "OSError")),
    ],
)
def test_calls_that_end_otherwise(error: Exception, outcome: Outcome):
    future: Future[Outcome] = Future()
    future.set_exception(error)
    assert module._outcome(future) == outcome


def test_a_call_that_was_taken_back():
    future: Future[Outcome] = Future()
    future.cancel()
    assert module._outcome(future) == Outcome("interrupted")


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
    monkeypatch.setattr(os, "setpgrp", lambda: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen or "")
    if seen is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    module._set_up_worker(2, gpu)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == expected
