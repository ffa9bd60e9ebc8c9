"""What is ahead is said once, as soon as a run has measured itself, and not only when the first is done."""

import time
from pathlib import Path

import pytest

from jcl.benchmark.display import Display, seconds_left
from jcl.benchmark.folder import LOG, RUN, task_folder
from jcl.benchmark.plan import Task
from jcl.benchmark.schedule import Ledger
from jcl.files import write_json
from jcl.training.logger import COST


def task(name: str, kind: str, steps: int) -> Task:
    return Task(id=name, kind=kind, label=name, key=name, code=name, settings={}, needs=None, steps=steps)


TASKS = [task("a", "pretrain", 100), task("b", "pretrain", 300), task("c", "finetune", 10)]


def foresee(out: Path, name: str, seconds: float) -> None:
    folder = task_folder(out, name) / RUN
    folder.mkdir(parents=True)
    write_json(folder / COST, {"seconds": seconds, "memory": 2_000_000_000, "disk": 30_000_000})


def test_a_run_that_has_measured_itself_tells_what_all_will_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """100 steps of the one take 1000 s, so those of all take 4100 s, of two at a time half of it."""
    ledger = Ledger(TASKS, running={"a": time.monotonic()})
    with Display(tmp_path, TASKS, 2) as display:
        display.update(ledger)
        assert capsys.readouterr().err == ""
        foresee(tmp_path, "a", 1000.0)
        display.update(ledger)
        display.update(ledger)
    cost = "about 34 min, 2.0 GB of memory for each of 2 at a time, 30 MB on the disk for each"
    assert capsys.readouterr().err == f"benchmark: expected for 3 runs: {cost}\n"


def test_a_short_benchmark_is_not_announced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foresee(tmp_path, "a", 5.0)
    with Display(tmp_path, TASKS, 2) as display:
        display.update(Ledger(TASKS, running={"a": time.monotonic()}))
    assert capsys.readouterr().err == ""


def test_what_is_done_counts_before_what_is_expected() -> None:
    ledger = Ledger(TASKS, done={"a": 200.0})
    assert seconds_left(TASKS, {"a": 200.0}, ledger, {"b": 9e9, "c": 40.0}) == pytest.approx(600.0 + 40.0)
    assert seconds_left(TASKS, {}, Ledger(TASKS)) is None


def test_a_failure_is_said_once_with_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Display(tmp_path, TASKS, 2) as display:
        for again in (True, True, False):
            display.failed(TASKS[0], "it broke", again=again)
        display.failed(TASKS[1], "it broke", again=False)
        display.failed(TASKS[0], "otherwise", again=False)
    logs = [task_folder(tmp_path, name) / LOG for name in ("a", "b")]
    assert capsys.readouterr().err.splitlines() == [
        f"a: it broke (will be tried again; log: {logs[0]})",
        f"b: it broke (given up; log: {logs[1]})",
        f"a: otherwise (given up; log: {logs[0]})",
    ]
