"""Calls spread over processes: each works on one at a time, and one that dies takes only its own call along.

Nothing runs beside the caller: it gives out calls and looks for results, when it likes.
"""

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence, Sized
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, TypeVar, runtime_checkable

from jcl.errors import UsageError
from jcl.parallel.machine import duration
from jcl.parallel.worker import READY, answer, serve
from jcl.signals import deaf_to_ctrl_c

__all__ = ["GRACE_SECONDS", "InProcessPool", "Late", "Lost", "Pool", "ProcessPool", "run_all"]

Ended = tuple[Any, "Future[Any]"]
"""The name that a call was given, and its result or error."""

MOST = 30 if os.name == "nt" else None
"""Processes at most: Windows waits for 63 things at once, of which each process is two."""

GRACE_SECONDS = 10.0
"""Between asking a call to end, so that a training can save, and killing its process."""

DEATHS = 2
"""Of processes that had an item, after which it counts as what they died of."""

STARTS = 3
START_SECONDS = 0.5
"""Times that a process is tried to be started, and how long lies between them."""

CANNOT_START = (
    "worker processes cannot start; take --workers 1 (of benchmark: 0), or in a script of your own put"
    ' the call under `if __name__ == "__main__":`'
)

Item = TypeVar("Item")
Result = TypeVar("Result")


class Lost(Exception):
    """The process that had a call died."""


class Late(Exception):
    """A call took longer than it may, and was ended."""


@runtime_checkable
class Pool(Protocol):
    """Where calls are done: in this process, in others of this machine, or on a Ray cluster (`jcl.parallel.ray`)."""

    @property
    def running(self) -> Sized:
        """What has begun and is not fetched yet."""
        ...

    @property
    def slots(self) -> int:
        """Calls that can run at a time."""
        ...

    def start(self, name: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """Begin a call; there is a free slot."""
        ...

    def wait(self, seconds: float | None = None) -> list[Ended]:
        """Of those that run, of which there are some, those that have ended, after `seconds` at most if none has.

        One whose process died has the error `Lost`, one that was ended since it took too long `Late`.
        """
        ...

    def stop(self) -> None:
        """Ask what runs to end soon, as a training does that saves first."""
        ...


def run_all(
    pool: Pool, function: Callable[[Item], Result], items: Sequence[Item], lost: Callable[[Item], Result]
) -> Iterator[tuple[Item, Result]]:
    """Each item with its result in any order, or with what `lost` gives where the process that had it died.

    That is believed when it dies `DEATHS` times: once may be anything that kills a process, which says nothing of the
    item. What the function raises is raised here, and ends the rest.
    """
    waiting, deaths = deque(range(len(items))), [0] * len(items)
    while True:
        while waiting and len(pool.running) < pool.slots:
            number = waiting.popleft()
            pool.start(number, function, items[number])
        if not pool.running:
            return
        for number, future in pool.wait():
            try:
                result = future.result()
            except Lost:
                deaths[number] += 1
                if deaths[number] < DEATHS:
                    waiting.appendleft(number)
                    continue
                result = lost(items[number])
            yield items[number], result


class InProcessPool:
    """This process, which does a call when it is waited for."""

    slots = 1

    def __init__(self) -> None:
        self.running: deque[tuple[Any, Callable[..., Any], tuple[Any, ...]]] = deque()

    def start(self, name: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """See `Pool`."""
        self.running.append((name, function, arguments))

    def wait(self, seconds: float | None = None) -> list[Ended]:
        """Do what was taken first, however long it takes."""
        name, function, arguments = self.running.popleft()
        return [(name, _future(*answer(function, arguments)))]

    def stop(self) -> None:
        """Nothing runs when this can be called: a signal reaches the call itself."""


@dataclass(frozen=True)
class _Worker:
    process: BaseProcess
    pipe: "Connection[Any, Any]"
    lifeline: "Connection[Any, Any]"

    def kill(self) -> None:
        """End it at once, and all that it has started."""
        if not hasattr(os, "killpg"):  # Windows, which has one way to end a process
            self.process.terminate()
            return
        if number := self.process.pid:
            with contextlib.suppress(OSError):  # there is no such group yet, or no more
                os.killpg(number, signal.SIGKILL)
        self.process.kill()


@dataclass
class _Call:
    name: Any
    until: float
    """When it is asked to end; and after that, when its process is killed."""

    asked: bool = False


class ProcessPool:
    """Processes of this machine, each begun when it is first needed, or again after it has died.

    They leave Ctrl-C to this process to answer, and end when it does, however that ends.

    Args:
        setups: for each process, what it calls first, and which may set the environment for modules that read it.
        modules: what the calls need. They begin to load now, and once for all processes, where the system can fork.
        seconds: what a call may take; then it gets SIGTERM, and `GRACE_SECONDS` later its process is killed.
    """

    def __init__(
        self, setups: Sequence[Callable[[], None]], modules: Sequence[str] = (), *, seconds: float = math.inf
    ) -> None:
        self.setups, self.context, self.seconds = setups[:MOST], _context(modules), seconds
        self.workers: list[_Worker | None] = [None] * len(self.setups)
        self.running: dict[int, _Call] = {}
        self.can_start = False

    @property
    def slots(self) -> int:
        """See `Pool`."""
        return len(self.setups)

    def start(self, name: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """See `Pool`."""
        slot = next(number for number in range(self.slots) if number not in self.running)
        worker = self.workers[slot]
        if worker is None or worker.pipe.poll():  # which has an end: it died with nothing to do
            worker = self.workers[slot] = self._begin(slot)
        with contextlib.suppress(OSError):  # it died just now, as `wait` will find
            worker.pipe.send((function, arguments))
        self.running[slot] = _Call(name, time.monotonic() + self.seconds)

    def wait(self, seconds: float | None = None) -> list[Ended]:
        """See `Pool`.

        Raises:
            UsageError: a process does not come up, and none has before.
        """
        limit = math.inf if seconds is None else time.monotonic() + seconds
        ended: list[Ended] = []
        while not ended:
            self._end_late()
            now, until = time.monotonic(), min(limit, *(call.until for call in self.running.values()))
            workers = {slot: worker for slot in self.running if (worker := self.workers[slot])}
            sources = [x for each in workers.values() for x in (each.pipe, each.process.sentinel)]
            ready = set(wait(sources, None if until == math.inf else max(0.0, until - now)))
            for slot, worker in workers.items():
                if not ready.isdisjoint((worker.pipe, worker.process.sentinel)):
                    ended += self._receive(slot, worker)
            if now >= limit:
                break
        return ended

    def stop(self) -> None:
        """Send SIGTERM to those at work."""
        for slot in self.running:
            if worker := self.workers[slot]:
                worker.process.terminate()

    def close(self) -> None:
        """End the processes, those at work at once."""
        workers = {slot: worker for slot, worker in enumerate(self.workers) if worker}
        for slot, worker in workers.items():
            worker.pipe.close()
            if slot in self.running:
                worker.kill()
        limit = time.monotonic() + GRACE_SECONDS
        for worker in workers.values():
            worker.process.join(max(0.0, limit - time.monotonic()))
            worker.kill()
            worker.process.join(GRACE_SECONDS)
            worker.lifeline.close()

    def _begin(self, slot: int) -> _Worker:
        """A process for a slot.

        Raises:
            UsageError: none can be started.
        """
        for _ in range(STARTS):
            ours, theirs = self.context.Pipe()
            end, lifeline = self.context.Pipe(duplex=False)
            process = self.context.Process(target=serve, args=(theirs, end, self.setups[slot]))
            try:
                with deaf_to_ctrl_c():
                    process.start()
            except (EOFError, ConnectionError):  # of what forks processes: killed, and a new one begins when it is gone
                ours.close()
                lifeline.close()
                time.sleep(START_SECONDS)
            else:
                return _Worker(process, ours, lifeline)
            finally:
                theirs.close()
                end.close()
        raise UsageError(CANNOT_START)

    def _end_late(self) -> None:
        """Ask those to end that have taken too long, and kill those that were asked and did not."""
        now = time.monotonic()
        for slot, call in self.running.items():
            worker = self.workers[slot]
            if worker is None or call.until > now:
                continue
            if call.asked:
                worker.kill()
            else:
                worker.process.terminate()
            call.asked, call.until = True, math.inf if call.asked else now + GRACE_SECONDS

    def _receive(self, slot: int, worker: _Worker) -> list[Ended]:
        """How the call of a worker ended; nothing if it only says that it is ready.

        Raises:
            UsageError: it died, and no process has come up so far.
        """
        try:
            if not worker.pipe.poll():
                raise EOFError
            said = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join(GRACE_SECONDS)
            worker.kill()  # what it has started
            if not self.can_start:
                raise UsageError(CANNOT_START) from None
            said, self.workers[slot] = (None, Lost(_cause(worker.process.exitcode))), None
        if said == READY:
            self.can_start = True
            return []
        call = self.running.pop(slot)
        return [
            (
                call.name,
                _future(None, Late(f"it took longer than {duration(self.seconds)}")) if call.asked else _future(*said),
            )
        ]


def _cause(code: int | None) -> str:
    """What a process died of, by its exit code."""
    by = f"exit code {code}"
    if code is not None and code < 0:
        by = {-9: "killed; memory may have run out"}.get(code, f"signal {-code}")  # Windows has no SIGKILL
    return f"the process that ran it died ({by})"


def _context(modules: Sequence[str]) -> ForkServerContext | SpawnContext:
    """Processes that begin as copies of one that has loaded the modules, and is none of ours: we may have threads."""
    # a copy of a process that has loaded numerical libraries may crash on a Mac
    if modules and sys.platform != "darwin" and "forkserver" in multiprocessing.get_all_start_methods():
        from multiprocessing import forkserver  # not above: Windows has none

        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(modules))
        # Its socket lies in the temporary folder, which may be full, or have too long a name.
        with contextlib.suppress(OSError), deaf_to_ctrl_c():
            forkserver.ensure_running()
            return context
    return multiprocessing.get_context("spawn")


def _future(result: Any, error: BaseException | None) -> "Future[Any]":
    future: Future[Any] = Future()
    if error:
        future.set_exception(error)
    else:
        future.set_result(result)
    return future
