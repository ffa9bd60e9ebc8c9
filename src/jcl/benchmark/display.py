"""One progress display for the whole benchmark: how many runs, which now, the time left and what it has cost."""

import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

from rich.progress import Progress

from jcl.benchmark.folder import DONE, task_folder
from jcl.benchmark.plan import Task
from jcl.benchmark.schedule import Ledger
from jcl.checkpoint import read_json
from jcl.errors import DataError
from jcl.progress import progress_bar

__all__ = ["Display", "duration", "seconds_left", "seconds_of"]

PLAIN_SECONDS = 60.0
"""Seconds between two lines where there is no terminal to draw a bar on."""

NAMES_SHOWN = 2


class Display:
    """A bar on a terminal, a line a minute elsewhere; failures are said at once on both."""

    def __init__(self, out: Path, tasks: Iterable[Task], slots: int) -> None:
        self.tasks = list(tasks)
        self.took = {task.id: seconds for task in self.tasks if (seconds := seconds_of(out, task)) is not None}
        self.slots = slots
        self.out = out
        self.told = time.monotonic()
        self.bar: Progress = progress_bar("benchmark")
        self.task = self.bar.add_task("benchmark", total=len(self.tasks), note="")

    def __enter__(self) -> "Display":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def update(self, ledger: Ledger) -> None:
        """Show where it stands."""
        for task in self.tasks:
            if task.id in ledger.done and task.id not in self.took:
                self.took[task.id] = seconds_of(self.out, task) or ledger.done[task.id]
        over = len(ledger.done) + len(ledger.failed) + len(ledger.blocked)
        note = self._note(ledger)
        self.bar.update(self.task, completed=over, note=note)
        if self.bar.disable and (time.monotonic() - self.told > PLAIN_SECONDS or ledger.is_over()):
            self.told = time.monotonic()
            print(f"benchmark: {over} of {len(self.tasks)} runs, {note}", file=sys.stderr, flush=True)

    def failed(self, task: Task, error: str, *, again: bool) -> None:
        """Say it above the bar."""
        self.bar.console.print(
            f"{task.label}: {error} ({'will be tried again' if again else 'given up'})", markup=False, highlight=False
        )

    def _note(self, ledger: Ledger) -> str:
        left = seconds_left(self.tasks, self.took, ledger)
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


def seconds_of(out: Path, task: Task) -> float | None:
    """How long a finished task took; None for others."""
    path = task_folder(out, task.id) / DONE
    try:
        return float(read_json(path)["seconds"]) if path.is_file() else None
    except (DataError, KeyError, TypeError, ValueError):
        return None


def seconds_left(tasks: Iterable[Task], took: Mapping[str, float], ledger: Ledger) -> float | None:
    """Work left, in seconds of one slot: as long as those of the same kind took a step; None before the first."""
    tasks = list(tasks)
    rates: dict[str, float] = {}
    for kind in {task.kind for task in tasks}:
        known = [task for task in tasks if task.kind == kind and task.id in took]
        if known:
            rates[kind] = sum(took[task.id] for task in known) / sum(max(1, task.steps) for task in known)
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


def duration(seconds: float) -> str:
    """As people say it: 40 s, 12 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
