"""A function over many items, in processes of this machine or on a Ray cluster.

Results come in any order. A process that dies costs its own item only.
"""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import SimpleITK as sitk

from jcl.allocator import keep_memory
from jcl.errors import UsageError
from jcl.orphans import end_with_parent

__all__ = ["InProcesses", "OnRay", "Spread"]

LOST_AGAIN = 2
"""How often Ray gives out an item again whose process or machine died, before the item is blamed."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@runtime_checkable
class Spread(Protocol):
    """Where the work is done."""

    def run(
        self, function: Callable[[Item], Result], items: Sequence[Item], dead: Callable[[Item], Result]
    ) -> Iterator[tuple[Item, Result]]:
        """Each item with its result, or with what `dead` gives where the process that had it died.

        What the function raises is raised here, and ends the rest.
        """
        ...


class InProcesses:
    """Processes of this machine; with one, this one itself.

    Args:
        workers: how many.
        modules: what the function needs. They begin to load now, and once for all processes, where the system can fork.
    """

    def __init__(self, workers: int, modules: Sequence[str] = ()) -> None:
        self.workers = workers
        self.context = _context(modules) if workers > 1 else None

    def run(
        self, function: Callable[[Item], Result], items: Sequence[Item], dead: Callable[[Item], Result]
    ) -> Iterator[tuple[Item, Result]]:
        """See `Spread`."""
        workers = min(self.workers, len(items))
        if workers == 1:
            yield from ((item, function(item)) for item in items)
            return
        left = dict(enumerate(items))
        try:
            with self._pool(workers) as pool:
                _check_start(pool)
                futures = {pool.submit(function, item): number for number, item in left.items()}
                try:
                    for future in as_completed(futures):
                        result = future.result()
                        yield left.pop(futures[future]), result
                except BaseException:
                    pool.shutdown(wait=True, cancel_futures=True)
                    raise
        except BrokenProcessPool:
            # Whose fault it was cannot be told, so the rest run one by one; the next to die is it.
            yield from self._run_one_by_one(function, list(left.values()), dead)

    def _run_one_by_one(
        self, function: Callable[[Item], Result], items: Sequence[Item], dead: Callable[[Item], Result]
    ) -> Iterator[tuple[Item, Result]]:
        pool = self._pool(1)
        try:
            for item in items:
                try:
                    result = pool.submit(function, item).result()
                except BrokenProcessPool:
                    pool.shutdown()
                    pool, result = self._pool(1), dead(item)
                yield item, result
        finally:
            pool.shutdown()

    def _pool(self, workers: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(workers, self.context, initializer=_start_worker)


class OnRay:
    """One core of a cluster's machines for each item.

    Args:
        ray: as `jcl.cluster.joined` gives it.
        folders: what the machines have to see.
        limit: items at a time, at most.
    """

    def __init__(self, ray: Any, folders: Sequence[Path], limit: int | None = None) -> None:
        self.ray, self.folders, self.limit = ray, folders, limit

    def run(
        self, function: Callable[[Item], Result], items: Sequence[Item], dead: Callable[[Item], Result]
    ) -> Iterator[tuple[Item, Result]]:
        """See `Spread`."""
        from jcl.cluster import sources_digest

        exceptions = self.ray.exceptions
        remote = self.ray.remote(num_cpus=1, max_retries=LOST_AGAIN)(_run_there)
        waiting, running = list(reversed(items)), dict[Any, Item]()
        while waiting or running:
            while waiting and len(running) < (self.limit or len(items)):
                item = waiting.pop()
                running[remote.remote(function, item, self.folders, sources_digest())] = item
            for reference in self.ray.wait(list(running))[0]:
                item = running.pop(reference)
                try:
                    yield item, self.ray.get(reference)
                except exceptions.RayTaskError as error:
                    raise error.cause from error
                except exceptions.RayError:
                    yield item, dead(item)


def _run_there(function: Callable[[Item], Result], item: Item, folders: Sequence[Path], digest: str) -> Result:
    from jcl.cluster import check_machine

    check_machine(digest, folders)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    return function(item)


def _check_start(pool: ProcessPoolExecutor) -> None:
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool as error:
        raise UsageError(
            "worker processes cannot start; take --workers 1, or in a script of your own put the call of prepare"
            ' under `if __name__ == "__main__":`'
        ) from error


def _context(modules: Sequence[str]) -> BaseContext:
    """Processes that begin as copies of one that has loaded the modules, and is none of ours: we may have threads."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        from multiprocessing import forkserver  # not above: Windows has none

        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(modules))
        # Its socket lies in the temporary folder, which may be full, or have too long a name.
        with contextlib.suppress(OSError):
            forkserver.ensure_running()
            return context
    return multiprocessing.get_context("spawn")


def _start_worker() -> None:
    """One thread a process; the parent alone answers Ctrl-C; a parent that is killed takes its workers along."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    keep_memory(large=False)  # a volume is handed back, what is worked on in it is not
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
