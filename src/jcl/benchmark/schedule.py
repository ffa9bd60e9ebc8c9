"""The order of the tasks, what is tried again, and what cannot be done since what it needs has failed."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jcl.benchmark.folder import DONE, task_folder
from jcl.benchmark.perform import Outcome
from jcl.benchmark.plan import Task
from jcl.parallel.pool import GRACE_SECONDS
from jcl.signals import StopRequest

__all__ = ["Executor", "Ledger", "Show", "run_tasks"]

POLL_SECONDS = 1.0

BUSY_SECONDS = 10.0
"""How long a task rests that another process works on, before it is looked at again."""


@runtime_checkable
class Executor(Protocol):
    """Where tasks are done."""

    @property
    def slots(self) -> int:
        """Tasks that can run at a time."""
        ...

    def start(self, task: Task, attempt: int) -> None:
        """Begin a task; there is a free slot."""
        ...

    def wait(self, seconds: float) -> list[tuple[Task, Outcome]]:
        """Those that have ended, after `seconds` at most if none has."""
        ...

    def stop(self) -> None:
        """Ask all running tasks to save and end."""
        ...


@runtime_checkable
class Show(Protocol):
    """Who is notified of what happens."""

    def update(self, ledger: "Ledger") -> None:
        """Something may have changed."""
        ...

    def failed(self, task: Task, error: str, *, again: bool) -> None:
        """An attempt has failed."""
        ...


@dataclass
class Ledger:
    """What is known of each task at any moment."""

    tasks: Sequence[Task]
    done: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)
    running: dict[str, float] = field(default_factory=dict)
    elsewhere: dict[str, float] = field(default_factory=dict)
    unsaved: set[str] = field(default_factory=set)
    interrupted: bool = False

    def ready(self) -> list[Task]:
        """Tasks that can begin now, in order."""
        known: Mapping[str, Any] = {**self.done, **self.failed, **self.running, **dict.fromkeys(self.blocked)}
        now = time.monotonic()
        waiting = (task for task in self.tasks if task.id not in known and self.elsewhere.get(task.id, 0) <= now)
        return [task for task in waiting if task.needs is None or task.needs in self.done]

    def block(self) -> None:
        """Put down what cannot be done since what it needs has failed."""
        lost = {task.id for task in self.tasks if task.needs in self.failed or task.needs in self.blocked}
        self.blocked |= lost - set(self.done)

    def is_over(self) -> bool:
        """Whether nothing is left to do or to wait for."""
        return len(self.done) + len(self.failed) + len(self.blocked) == len(self.tasks)


def run_tasks(out: Path, tasks: Sequence[Task], executor: Executor, show: Show, *, retries: int) -> Ledger:
    """Do all tasks that are not done; one that fails is tried again `retries` times and stops no other.

    A pre-training that failed blocks the fine-tunings that need it. SIGINT or SIGTERM lets the running tasks save
    and then ends; a second one raises KeyboardInterrupt. Those that have not saved after `GRACE_SECONDS` are left to
    whoever closes what the executor works with.
    """
    ledger = Ledger(tasks, done={task.id: 0.0 for task in tasks if (task_folder(out, task.id) / DONE).is_file()})
    attempts: dict[str, int] = {}
    limit = math.inf
    with StopRequest() as stop:
        while not ledger.is_over() and not (stop.asked and (not ledger.running or time.monotonic() > limit)):
            if not stop.asked:
                for task in ledger.ready()[: executor.slots - len(ledger.running)]:
                    attempts[task.id] = attempts.get(task.id, 0) + 1
                    ledger.running[task.id] = time.monotonic()
                    show.update(ledger)
                    executor.start(task, attempts[task.id])
            if not ledger.running:
                time.sleep(POLL_SECONDS)
            ended = executor.wait(POLL_SECONDS)
            if stop.asked and limit == math.inf:
                executor.stop()
                limit = time.monotonic() + GRACE_SECONDS
            for task, outcome in ended:
                _note(ledger, task, outcome, show, attempts, retries, stopping=stop.asked)
                stop.asked |= outcome.status == "interrupted"
            show.update(ledger)
    ledger.unsaved |= set(ledger.running)
    ledger.interrupted = stop.asked and not ledger.is_over()
    return ledger


def _note(
    ledger: Ledger, task: Task, outcome: Outcome, show: Show, attempts: dict[str, int], retries: int, *, stopping: bool
) -> None:
    """Write down how an attempt ended."""
    del ledger.running[task.id]
    match outcome.status:
        case "done":
            ledger.done[task.id] = outcome.seconds
        case "busy":
            ledger.elsewhere[task.id] = time.monotonic() + BUSY_SECONDS
            attempts[task.id] -= 1
        case "failed" | "lost" if not stopping:
            again = attempts[task.id] <= retries and not outcome.final
            show.failed(task, outcome.error or outcome.status, again=again)
            if not again:
                ledger.failed[task.id] = outcome.error or outcome.status
                ledger.block()
        case "lost":
            ledger.unsaved.add(task.id)
        case _:
            pass
