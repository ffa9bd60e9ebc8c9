"""How far a command has come and what it will cost: a bar on a terminal, and elsewhere a line now and then."""

import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from jcl.parallel.machine import duration, free_disk, peak_memory, size
from jcl.text import printable

__all__ = ["Cost", "Outlay", "ProgressBar", "at_work"]

FIRST_SECONDS, PLAIN_SECONDS = 10.0, 30.0
"""Seconds before the first line where there is no terminal to draw a bar on, and between two lines."""

MEASURED_SECONDS = 5.0
"""How long the work has to have gone on before it is foreseen what all of it will take."""

ANNOUNCED_SECONDS = 60.0
"""Work that takes longer than this is announced, with what it will cost."""


@dataclass(frozen=True)
class Cost:
    """What the whole of a work will have taken, as foreseen from its beginning: bytes of memory and of disk."""

    seconds: float
    memory: int | None
    disk: int


@dataclass(frozen=True)
class Outlay:
    """How memory and disk of a work are found out.

    Args:
        unit: what it consists of, `steps` say.
        folder: where it writes.
        disk: bytes that will be there, or have been at most, by the share that is done and the seconds of the whole.
        memory: bytes taken at most so far.
    """

    unit: str
    folder: Path
    disk: Callable[[float, float], float]
    memory: Callable[[], int | None] = peak_memory


class ProgressBar:
    """Context that says on stderr how much is done and how long the rest will take.

    Args:
        title: what is being done.
        total: how much there is to do.
        done: how much of it was done before.
        count: the number done in a line, as "{done} of {total}".
        estimate: whether a line says how long the rest takes at the speed so far.
        end: whether there is a last line, however short the work was.
        work: how much work all is, where one of the `total` may be more work than another (see `advance`).
        warm: how many take longer at the beginning, and say nothing of the speed.
        outlay: given, a work of more than a minute is announced by one line with what it will cost, once it has gone
            on for some seconds; `cost` is what was found.
    """

    def __init__(
        self,
        title: str,
        *,
        total: int,
        done: int = 0,
        count: str = "{done} of {total}",
        estimate: bool = True,
        end: bool = False,
        work: float | None = None,
        warm: int = 0,
        outlay: Outlay | None = None,
    ) -> None:
        self.title, self.total, self.first, self.done = title, total, done, done
        self.count, self.estimate, self.end = count, estimate, end
        self.weighted, self.work = work is not None, float(total if work is None else work)
        self.worked = self.start = 0.0 if self.weighted else float(done)
        self.within_one = (0.0, 0.0)
        self.cold = min(warm, max(0, total - done - 1))
        self.outlay, self.cost = outlay, None
        self.note = ""
        self.begun = time.monotonic()
        self.next_line = self.begun + FIRST_SECONDS
        self.bar = _terminal_bar() if sys.stderr.isatty() else None
        self.task = self.bar.add_task(title, total=total, completed=done, note="", left="") if self.bar else None

    def __enter__(self) -> "ProgressBar":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def advance(self, note: str = "", work: float = 1.0) -> None:
        """One more is done, which was so much work."""
        self.worked += work if self.weighted else 1.0
        self.update(self.done + 1, note)

    def update(self, done: int, note: str = "") -> None:
        """So many are done; `note`, or the last one given, says what else there is to say."""
        if not self.weighted:
            self.worked = float(done)
        if self.cold and done > self.done:
            self.cold -= 1
            self.begun, self.start = time.monotonic(), self.worked
        self.done, self.note, self.within_one = done, printable(note) or self.note, (0.0, 0.0)
        self._show()

    def within(self, share: float, note: str = "", work: float = 1.0) -> None:
        """Of the one that is next, which is so much work, a share is done."""
        self.note, self.within_one = printable(note) or self.note, (share, share * work)
        self._show()

    def say(self, line: str) -> None:
        """A line of its own, above the bar where there is one."""
        line = printable(line)
        if self.bar:
            self.bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def _show(self) -> None:
        now, left = time.monotonic(), self._seconds_left()
        # what one leaves on the disk is known when it is done
        known = self.done > self.first or self.total - self.first == 1
        if self.outlay and not self.cost and known and left is not None and now - self.begun >= MEASURED_SECONDS:
            self._foresee(self.outlay, now - self.begun, left)
        if self.bar:
            shown = duration(left) if left is not None and self.estimate else "-"
            self.bar.update(self.task, completed=self.done + self.within_one[0], note=self.note, left=shown)
        elif now > self.next_line or (self.end and self.done == self.total):
            self.next_line = now + PLAIN_SECONDS
            self.say(f"{self.title}: {', '.join([self._count(), *self._more(left)])}")

    def _foresee(self, outlay: Outlay, gone: float, left: float) -> None:
        """What all of it will have cost, said if it is long."""
        at = self.worked + self.within_one[1]
        whole = gone * self.work / (at - self.start)
        self.cost = Cost(whole, outlay.memory(), round(outlay.disk(at / self.work, whole)))
        if gone + left < ANNOUNCED_SECONDS:
            return
        parts = [f"about {duration(gone + left)}"]
        parts += [f"{size(self.cost.memory)} of memory"] if self.cost.memory else []
        parts += [f"{size(self.cost.disk)} on the disk"] if self.cost.disk else []
        free = free_disk(outlay.folder)
        short = f" ({size(free)} are free: make room)" if free is not None and free < self.cost.disk else ""
        self.say(f"{self.title}: expected for {self.total - self.first} {outlay.unit}: {', '.join(parts)}{short}")

    def _seconds_left(self) -> float | None:
        at = self.worked + self.within_one[1]
        gained = at - self.start
        return (time.monotonic() - self.begun) / gained * max(0.0, self.work - at) if gained > 0 else None

    def _count(self) -> str:
        share = f" and {100 * self.within_one[0]:.0f} % of the next" if self.within_one[0] else ""
        return self.count.format(done=self.done, total=self.total) + share

    def _more(self, left: float | None) -> list[str]:
        parts = [self.note] * bool(self.note)
        return [*parts, f"{duration(left)} left"] if self.estimate and left is not None else parts


@contextmanager
def at_work(title: str) -> Generator[None]:
    """Context of a work of which nobody knows how much there is: a line now and then says that it goes on."""
    ended, begun = threading.Event(), time.monotonic()

    def tell() -> None:
        seconds = FIRST_SECONDS
        while not ended.wait(seconds):
            print(f"{title}: at work for {duration(time.monotonic() - begun)}", file=sys.stderr, flush=True)
            seconds = PLAIN_SECONDS

    teller = threading.Thread(target=tell, name="jcl-at-work", daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def _terminal_bar() -> Any:
    # not above: without a terminal, as in worker processes, none is drawn
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left {task.fields[left]}"),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
    )
