"""Calls spread over processes: each works on one at a time, and one that dies takes only its own call along.

Nothing runs beside the caller: it gives out calls and looks for results, when it likes.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence, Sized
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, TypeVar, runtime_checkable

from jcl.errors import UsageError
from jcl.parallel.output import steady_output
from jcl.signals import deaf_to_ctrl_c

__all__ = ["InProcessPool", "Lost", "Pool", "ProcessPool", "run_all"]

Ended = tuple[Any, "Future[Any]"]
"""The name that a call was given, and its result or error."""

MOST = 30 if os.name == "nt" else None
"""Processes at most: Windows waits for 63 things at once, of which each process is two."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Lost(Exception):
    """The process that had a call died."""


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

        One whose process died has the error `Lost`.
        """
        ...

    def stop(self) -> None:
        """Ask what runs to end soon, as a training does that saves first."""
        ...


def run_all(
    pool: Pool, function: Callable[[Item], Result], items: Sequence[Item], lost: Callable[[Item], Result]
) -> Iterator[tuple[Item, Result]]:
    """Each item with its result in any order, or with what `lost` gives where the process that had it died.

    What the function raises is raised here, and ends the rest.
    """
    waiting = iter(items)
    while True:
        for item in islice(waiting, pool.slots - len(pool.running)):
            pool.start(item, function, item)
        if not pool.running:
            return
        for item, future in pool.wait():
            try:
                result = future.result()
            except Lost:
                result = lost(item)
            yield item, result


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
        return [(name, _future(*_answer(function, arguments)))]

    def stop(self) -> None:
        """Nothing runs when this can be called: a signal reaches the call itself."""


@dataclass(frozen=True)
class _Worker:
    process: BaseProcess
    pipe: "Connection[Any, Any]"


class ProcessPool:
    """Processes of this machine, each begun when it is first needed, or again after it has died.

    They leave Ctrl-C to this process to answer, and end when it does, however that ends.

    Args:
        setups: for each process, what it calls first, and which may set the environment for modules that read it.
        modules: what the calls need. They begin to load now, and once for all processes, where the system can fork.
    """

    def __init__(self, setups: Sequence[Callable[[], None]], modules: Sequence[str] = ()) -> None:
        self.setups, self.context = setups[:MOST], _context(modules)
        self.workers: list[_Worker | None] = [None] * len(self.setups)
        self.running: dict[int, Any] = {}
        self.can_start = False

    @property
    def slots(self) -> int:
        """See `Pool`."""
        return len(self.setups)

    def start(self, name: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """See `Pool`.

        Raises:
            UsageError: the first of all processes does not come up.
        """
        slot = next(number for number in range(self.slots) if number not in self.running)
        worker = self.workers[slot]
        if worker is None or worker.pipe.poll():  # which has an end: it died with nothing to do
            worker = self.workers[slot] = self._begin(slot)
        with contextlib.suppress(OSError):  # it died just now, as `wait` will find
            worker.pipe.send((function, arguments))
        self.running[slot] = name

    def wait(self, seconds: float | None = None) -> list[Ended]:
        """See `Pool`."""
        at_work = {slot: worker for slot in self.running if (worker := self.workers[slot])}
        ready = set(wait([x for each in at_work.values() for x in (each.pipe, each.process.sentinel)], seconds))
        ended: list[Ended] = []
        for slot, worker in at_work.items():
            if ready.isdisjoint((worker.pipe, worker.process.sentinel)):
                continue
            try:
                if not worker.pipe.poll():
                    raise EOFError
                answer = worker.pipe.recv()
            except (EOFError, OSError):
                answer, self.workers[slot] = (None, Lost(DIED)), None
            ended.append((self.running.pop(slot), _future(*answer)))
        return ended

    def stop(self) -> None:
        """Send SIGTERM to those at work."""
        for slot in self.running:
            if worker := self.workers[slot]:
                worker.process.terminate()

    def close(self) -> None:
        """End the processes, each after what it is at."""
        workers = [worker for worker in self.workers if worker]
        for worker in workers:
            worker.pipe.close()
        for worker in workers:
            worker.process.join()

    def _begin(self, slot: int) -> _Worker:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=_serve, args=(theirs, self.setups[slot]))
        with deaf_to_ctrl_c():
            process.start()
        theirs.close()
        try:
            if not self.can_start:
                ours.send((os.getpid, ()))
                self.can_start = bool(ours.recv())
        except (EOFError, OSError) as error:
            raise UsageError(
                "worker processes cannot start; take --workers 1 (of benchmark: 0), or in a script of your own put"
                ' the call under `if __name__ == "__main__":`'
            ) from error
        return _Worker(process, ours)


DIED = "the process that ran it died; memory may have run out"


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


def _serve(pipe: "Connection[Any, Any]", setup: Callable[[], None]) -> None:
    """What a worker process does until the pool is closed."""
    for number in ("SIGINT", "SIGHUP"):
        if hasattr(signal, number):
            signal.signal(getattr(signal, number), signal.SIG_IGN)
    steady_output()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    setup()
    with contextlib.suppress(EOFError, OSError):
        while True:
            result, error = _answer(*pipe.recv())
            if error:  # its trace would be lost on the way
                error.add_note("".join(traceback.format_exception(error)))
            pipe.send((result, error))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _answer(function: Callable[..., Any], arguments: Sequence[Any]) -> tuple[Any, Exception | None]:
    """Result and error."""
    try:
        return function(*arguments), None
    except Exception as error:
        return None, error


def _future(result: Any, error: BaseException | None) -> "Future[Any]":
    future: Future[Any] = Future()
    if error:
        future.set_exception(error)
    else:
        future.set_result(result)
    return future
