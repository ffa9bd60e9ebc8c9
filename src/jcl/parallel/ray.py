"""A Ray cluster: joined quietly, its machines checked to see the same code and folders, and given calls to do."""

import hashlib
import importlib
import os
import platform
import signal
import socket
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from jcl.errors import JclError, UsageError
from jcl.parallel.machine import cores
from jcl.parallel.pool import Ended, Lost
from jcl.signals import ASKING

__all__ = ["RayPool", "check_machine", "joined", "sources_digest"]

LOCAL_STORE_BYTES = 100 << 20
"""Of memory for what tasks pass on, which here is little; Ray would set aside a third of the machine's."""

ANSWER_SECONDS = 20.0

LOST_AGAIN = 2
"""How often Ray gives out a call again whose process or machine died, where it is asked to."""


class RayPool:
    """Calls on the machines of a cluster; see `jcl.parallel.pool.Pool`.

    As many at a time as the cluster has room for, a number that changes as machines come and go. What is lost with its
    process or its machine is the caller's to begin again.

    Args:
        ray: as `joined` gives it.
        folders: what the machines have to see.
        setup: called before each call, and before modules are loaded that only the call needs.
        threads: cores that a call asks for.
        gpu: a call asks for a GPU too, where the cluster has any.
        limit: calls at a time, at most.
        queued: Ray is given all calls at once, and gives out again what is lost; for short ones that may be repeated.

    Raises:
        UsageError: no machine has so many cores.
    """

    def __init__(
        self, ray: Any, folders: Sequence[Path], setup: Callable[[], None], *, threads: int = 1, gpu: bool = False,
        limit: int | None = None, queued: bool = False,
    ) -> None:  # fmt: skip
        self.ray, self.folders, self.setup, self.threads = ray, folders, setup, threads
        self.limit, self.queued = limit or sys.maxsize, queued
        self.running: dict[Any, Any] = {}
        machines = self._machines()
        self.gpus = 1 if gpu and any(machine.get("GPU", 0) >= 1 for machine in machines) else 0
        if not (queued or self._room(machines)):
            most = max((int(machine.get("CPU", 0)) for machine in machines), default=0)
            asked = f"{threads} cores" + (" and a GPU" if self.gpus else "")
            raise UsageError(f"no machine of the cluster has {asked} (at most {most} cores); take fewer --threads")
        options = {"num_cpus": threads, "num_gpus": self.gpus, "max_retries": LOST_AGAIN if queued else 0}
        self.remote = ray.remote(**options)(_call_there)

    @property
    def slots(self) -> int:
        """Never less than what runs; and at least one, which waits in Ray for a machine to come."""
        room = self.limit if self.queued else min(self._room(self._machines()), self.limit)
        return max(1, len(self.running), room)

    def start(self, name: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """Give a call to Ray, which finds a machine for it."""
        there = (sources_digest(), self.folders, self.setup, function, arguments)
        self.running[self.remote.remote(*there)] = name

    def wait(self, seconds: float | None = None) -> list[Ended]:
        """One that has ended, after `seconds` at most."""
        ready, _ = self.ray.wait(list(self.running), timeout=seconds)
        return [(self.running.pop(reference), self._future(reference)) for reference in ready]

    def stop(self) -> None:
        """Have Ray call the handler of SIGINT where the calls run, and forget those that do not run yet."""
        for reference in self.running:
            self.ray.cancel(reference)

    def _future(self, reference: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        exceptions = self.ray.exceptions
        try:
            future.set_result(self.ray.get(reference))
        except exceptions.TaskCancelledError:
            future.cancel()
        except exceptions.RayTaskError as error:
            future.set_exception(error.cause)
        except exceptions.RayError as error:
            future.set_exception(Lost(f"its process or its machine died ({_one_line(error)})"))
        return future

    def _machines(self) -> list[dict[str, float]]:
        """What each machine of the cluster has, busy or not."""
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    def _room(self, machines: list[dict[str, float]]) -> int:
        """Calls that fit on the machines."""
        rooms = (int(machine.get("CPU", 0)) // self.threads for machine in machines)
        gpus = (int(machine.get("GPU", 0)) if self.gpus else sys.maxsize for machine in machines)
        return sum(map(min, rooms, gpus))


def _call_there(
    digest: str, folders: Sequence[Path], setup: Callable[[], None], function: Callable[..., Any], arguments: Any
) -> Any:
    """What a process of Ray does: in its main thread, where `ray.cancel` calls the handler of SIGINT.

    That is how a training learns that it should save; outside of one it ends the call.
    """
    check_machine(digest, folders)
    # Ray blocks it. A process that a training starts would inherit that, and not end with its parent: by this signal.
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    setup()
    return function(*arguments)


def _one_line(error: BaseException) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) < 300 else f"{said[:300]} …"


@contextmanager
def joined(address: str) -> Generator[Any]:
    """Ray, connected to a cluster; when this ends, so do the tasks that were given to it.

    Args:
        address: `HOST:PORT` of a cluster's head, `auto` for the cluster that this machine is part of, or `local` for
            one that is started here and ends with the program.

    Raises:
        UsageError: Ray is not installed, there is no cluster at the address, or it is one of other versions.
        JclError: a local cluster did not start.
    """
    ray = _import_ray()
    before = {number: signal.getsignal(number) for number in ASKING}
    try:
        _connect(ray, address)
        for number, handler in before.items():  # Ray would have SIGTERM end the program at once
            signal.signal(number, handler)
        yield ray
    finally:
        ray.shutdown()


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    try:
        ray = importlib.import_module("ray")
        printing: Any = importlib.import_module("ray._private.worker")
    except ImportError as error:
        raise UsageError("--ray needs the package ray: pip install 'jcl-seg[ray]'") from error
    # Ray has no setting for this: it prints a paragraph for each worker that died, beside the line that we say of it.
    printing._worker_logs_enabled = False
    return ray


def _connect(ray: Any, address: str) -> None:
    if "://" in address:
        raise UsageError(f"--ray {address}: run this on a machine of the cluster, and give `auto` or HOST:PORT")
    own: dict[str, Any] = {}
    if ":" in address:
        _check_answers(address)
    if address == "local":
        own = {"include_dashboard": False, "object_store_memory": LOCAL_STORE_BYTES, "num_cpus": cores()}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
    except Exception as error:  # Ray raises what it likes, even plain Exception
        said = _one_line(error)
        if own:
            raise JclError(f"Ray did not start on this machine: {said}") from error
        raise UsageError(
            f"--ray {address}: no Ray cluster can be joined there ({said}); begin one with `ray start --head`, "
            "or give `--ray local`"
        ) from error


def _check_answers(address: str) -> None:
    """Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS):
            pass
    except (OSError, ValueError, OverflowError) as error:
        raise UsageError(
            f"--ray {address}: nothing answers there ({error}); `ray start --head` prints the address of a cluster"
        ) from error


def check_machine(digest: str, folders: Iterable[Path]) -> None:
    """Called in a task: that the machine has the same sources, and sees the folders.

    Else scans would count as damaged that lie on a file system which one machine has not mounted, and one that was not
    updated would mix results of two versions.

    Args:
        digest: `sources_digest` of the machine that gave the task.
        folders: files or folders that have to be there.

    Raises:
        UsageError: they differ, or something is not there.
    """
    if sources_digest() != digest:
        raise UsageError(f"{platform.node()} has another version of jcl ({_PACKAGE}); install the same on all machines")
    for path in folders:
        if not path.exists():
            raise UsageError(
                f"{platform.node()} does not see {path}; it has to be on a file system that all machines of the "
                "cluster have, at the same place"
            )


@cache
def sources_digest() -> str:
    """Digest of all of this package's sources."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


_PACKAGE = Path(__file__).parents[1]
