"""Order, attempts and dependencies, with runs that only pretend."""

import os
import signal
from collections import deque
from pathlib import Path

import pytest

from jcl.benchmark import schedule
from jcl.benchmark.folder import DONE, task_folder
from jcl.benchmark.perform import Outcome
from jcl.benchmark.plan import Task
from jcl.benchmark.schedule import Ledger, run_tasks

DONE_NOW = Outcome("done", seconds=1.0)
FAILED = Outcome("failed", "it broke")


class Pretend:
    """An executor whose outcomes are written down beforehand: label -> outcomes of its attempts, else done."""

    def __init__(self, slots: int = 2, script: dict[str, list[Outcome]] | None = None) -> None:
        self.slots, self.script = slots, {k: deque(v) for k, v in (script or {}).items()}
        self.running: deque[tuple[Task, int]] = deque()
        self.started: list[tuple[str, int]] = []
        self.most = 0
        self.stopped = 0

    def start(self, task: Task, attempt: int) -> None:
        self.running.append((task, attempt))
        self.started.append((task.label, attempt))
        self.most = max(self.most, len(self.running))

    def wait(self, seconds: float) -> list[tuple[Task, Outcome]]:
        if not self.running:
            return []
        task, _ = self.running.popleft()
        outcomes = self.script.get(task.label)
        return [(task, outcomes.popleft() if outcomes else DONE_NOW)]

    def stop(self) -> None:
        self.stopped += 1

    def close(self) -> None:
        pass


class Told:
    """Keeps what was said of failures."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, bool]] = []

    def update(self, ledger: Ledger) -> None:
        pass

    def failed(self, task: Task, error: str, *, again: bool) -> None:
        self.said.append((task.label, error, again))


def task(label: str, needs: str | None = None) -> Task:
    return Task(id=label, kind="x", label=label, key=label, code="", settings={}, needs=needs, steps=1)


TASKS = (task("pre"), task("a", "pre"), task("b", "pre"), task("alone"), task("bad"), task("c", "bad"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(schedule, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(schedule, "BUSY_SECONDS", 0.05)


def run(tmp_path: Path, executor: Pretend, retries: int = 1) -> tuple[Ledger, Told]:
    told = Told()
    return run_tasks(tmp_path, TASKS, executor, told, retries=retries), told


def test_all_are_done_once_after_what_they_need(tmp_path: Path):
    executor = Pretend()
    ledger, told = run(tmp_path, executor)
    assert set(ledger.done) == {"pre", "a", "b", "alone", "bad", "c"}
    assert executor.most == 2
    order = [label for label, _ in executor.started]
    assert sorted(order) == sorted(set(order))
    assert order[0] == "pre"
    assert order.index("c") > order.index("bad")
    assert not told.said
    assert not ledger.interrupted


def test_what_is_done_is_not_begun(tmp_path: Path):
    for name in ("pre", "a"):
        folder = task_folder(tmp_path, name)
        folder.mkdir(parents=True)
        (folder / DONE).write_text("{}")
    executor = Pretend()
    run(tmp_path, executor)
    assert {label for label, _ in executor.started} == {"b", "alone", "bad", "c"}


def test_a_failure_is_tried_again_then_given_up_and_stops_no_other(tmp_path: Path):
    executor = Pretend(script={"bad": [FAILED] * 9})
    ledger, told = run(tmp_path, executor, retries=2)
    assert [attempt for label, attempt in executor.started if label == "bad"] == [1, 2, 3]
    assert ledger.failed == {"bad": "it broke"}
    assert ledger.blocked == {"c"}
    assert set(ledger.done) == {"pre", "a", "b", "alone"}
    assert [again for _, _, again in told.said] == [True, True, False]


def test_a_second_attempt_that_succeeds_is_a_success(tmp_path: Path):
    ledger, _ = run(tmp_path, Pretend(script={"bad": [Outcome("lost", "killed"), DONE_NOW]}))
    assert len(ledger.done) == 6


def test_what_would_fail_likewise_is_not_tried_again(tmp_path: Path):
    executor = Pretend(script={"pre": [Outcome("failed", "no such setting", final=True)]})
    ledger, _ = run(tmp_path, executor, retries=5)
    assert [label for label, _ in executor.started].count("pre") == 1
    assert ledger.blocked == {"a", "b"}


def test_what_another_process_works_on_is_waited_for(tmp_path: Path):
    executor = Pretend(script={"pre": [Outcome("busy")] * 3 + [DONE_NOW]})
    ledger, told = run(tmp_path, executor, retries=0)
    assert len(ledger.done) == 6
    assert [attempt for label, attempt in executor.started if label == "pre"] == [1, 1, 1, 1]
    assert not told.said


def test_a_signal_stops_what_runs_and_begins_nothing_new(tmp_path: Path):
    class Interrupted(Pretend):
        def wait(self, seconds: float) -> list[tuple[Task, Outcome]]:
            if not self.stopped:
                os.kill(os.getpid(), signal.SIGTERM)
            return [(self.running.popleft()[0], Outcome("interrupted"))] if self.running else []

    executor = Interrupted()
    ledger, told = run(tmp_path, executor)
    assert executor.stopped == 1
    assert [label for label, _ in executor.started] == ["pre", "alone"]
    assert ledger.interrupted
    assert not ledger.done
    assert not told.said
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_process_that_dies_while_stopping_is_no_failure(tmp_path: Path):
    class Dying(Pretend):
        def wait(self, seconds: float) -> list[tuple[Task, Outcome]]:
            if not self.stopped:
                os.kill(os.getpid(), signal.SIGINT)
            return [(self.running.popleft()[0], Outcome("lost", "died"))] if self.running else []

    ledger, told = run(tmp_path, Dying(), retries=0)
    assert ledger.interrupted
    assert ledger.unsaved == {"pre", "alone"}
    assert not ledger.failed
    assert not told.said


def test_what_does_not_end_when_it_is_stopped_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Hanging(Pretend):
        def wait(self, seconds: float) -> list[tuple[Task, Outcome]]:
            if not self.stopped:
                os.kill(os.getpid(), signal.SIGINT)
            return []

    monkeypatch.setattr(schedule, "GRACE_SECONDS", 0.2)
    executor = Hanging()
    ledger, told = run(tmp_path, executor)
    assert executor.stopped == 1
    assert ledger.interrupted
    assert ledger.unsaved == {"pre", "alone"}
    assert not told.said
