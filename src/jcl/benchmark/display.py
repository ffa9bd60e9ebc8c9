"""One progress display for the whole benchmark: how many runs, which now, the time left and what it has cost."""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType

from jcl.benchmark.folder import DONE, LOG, RUN, task_folder
from jcl.benchmark.plan import Task
from jcl.benchmark.schedule import Ledger
from jcl.errors import DataError
from jcl.files import read_json
from jcl.parallel.machine import duration, size
from jcl.parallel.progress import ANNOUNCED_SECONDS, Cost, ProgressBar
from jcl.training.logger import COST

__all__ = ["Display", "seconds_left", "seconds_of"]

NAMES_SHOWN = 2


class Display:
    """A bar on a terminal, a line now and then elsewhere; failures are said at once on both."""

    def __init__(self, out: Path, tasks: Iterable[Task], slots: int) -> None:
        self.tasks = list(tasks)
        self.took = {task.id: seconds for task in self.tasks if (seconds := seconds_of(out, task)) is not None}
        self.slots, self.announced = slots, False
        self.out = out
        self.told: dict[str, str] = {}
        self.bar = ProgressBar(
            "benchmark", total=len(self.tasks), count="{done} of {total} runs", estimate=False, end=True
        )

    def __enter__(self) -> "Display":
        self.bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.__exit__(kind, error, trace)

    def update(self, ledger: Ledger) -> None:
        """Show where it stands."""
        for task in self.tasks:
            if task.id in ledger.done and task.id not in self.took:
                self.took[task.id] = seconds_of(self.out, task) or ledger.done[task.id]
        over = len(ledger.done) + len(ledger.failed) + len(ledger.blocked)
        self.bar.update(over, self._note(ledger))

    def failed(self, task: Task, error: str, *, again: bool) -> None:
        """Say it above the bar, unless the last attempt failed in the same way."""
        if self.told.get(task.id) != error:
            what = "will be tried again" if again else "given up"
            self.bar.say(f"{task.label}: {error} ({what}; log: {task_folder(self.out, task.id) / LOG})")
        self.told[task.id] = error

    def _note(self, ledger: Ledger) -> str:
        expected = {task.id: cost for task in self.tasks if task.id in ledger.running and (cost := self._cost(task))}
        left = seconds_left(self.tasks, self.took, ledger, {name: cost.seconds for name, cost in expected.items()})
        if left is not None and not self.announced:
            self._announce(left / self.slots, list(expected.values()))
        parts = [
            f"about {duration(left / self.slots)} left" if left is not None else "time left not known yet",
            f"{sum(self.took.values()) / 3600:.1f} h of work done",
        ]
        bad = len(ledger.failed) + len(ledger.blocked)
        parts += [f"{bad} failed"] * bool(bad)
        if ledger.running:
            names = [task.label for task in self.tasks if task.id in ledger.running]
            more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
            parts.append(f"now {', '.join(names[:NAMES_SHOWN])}{more}")
        return "; ".join(parts)

    def _announce(self, seconds: float, costs: Sequence[Cost]) -> None:
        """One line with what is ahead, as soon as that can be said."""
        self.announced = True
        if seconds < ANNOUNCED_SECONDS:
            return
        parts = [f"about {duration(seconds)}"]
        memory = max((cost.memory or 0 for cost in costs), default=0)
        parts += [f"{size(memory)} of memory for each of {self.slots} at a time"] * bool(memory)
        parts += [f"{size(max(cost.disk for cost in costs))} on the disk for each"] if costs else []
        self.bar.say(f"benchmark: expected for {len(self.tasks) - len(self.took)} runs: {', '.join(parts)}")

    def _cost(self, task: Task) -> Cost | None:
        """What a running task expects itself to take, once it knows."""
        path = task_folder(self.out, task.id) / RUN / COST
        try:
            return Cost(**read_json(path)) if path.is_file() else None
        except (DataError, TypeError):
            return None


def seconds_of(out: Path, task: Task) -> float | None:
    """How long a finished task took; None for others."""
    path = task_folder(out, task.id) / DONE
    try:
        return float(read_json(path)["seconds"]) if path.is_file() else None
    except (DataError, KeyError, TypeError, ValueError):
        return None


def seconds_left(
    tasks: Iterable[Task],
    took: Mapping[str, float],
    ledger: Ledger,
    expected: Mapping[str, float] = MappingProxyType({}),
) -> float | None:
    """Work left, in seconds of one slot: as long as those of the same kind took a step; None before anything is known.

    Where none of a kind is done, what those that run expect to take, by their id.
    """
    tasks = list(tasks)
    rates: dict[str, float] = {}
    for kind in {task.kind for task in tasks}:
        for times in (took, expected):
            known = [task for task in tasks if task.kind == kind and task.id in times]
            if known and kind not in rates:
                rates[kind] = sum(times[task.id] for task in known) / sum(max(1, task.steps) for task in known)
    over = {**ledger.done, **ledger.failed, **dict.fromkeys(ledger.blocked)}
    waiting = [task for task in tasks if task.id not in over]
    if not rates:
        return None
    guess = max(rates.values())
    now = time.monotonic()
    total = 0.0
    for task in waiting:
        whole = rates.get(task.kind, guess) * max(1, task.steps)
        total += max(0.0, whole - (now - ledger.running.get(task.id, now)))
    return total
