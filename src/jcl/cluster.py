"""A Ray cluster: joined quietly, and its machines checked to see the same code and the same folders."""

import hashlib
import importlib
import os
import platform
import signal
import socket
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from jcl.errors import JclError, UsageError

__all__ = ["check_machine", "joined", "sources_digest"]

LOCAL_STORE_BYTES = 100 << 20
"""Of memory for what tasks pass on, which here is little; Ray would set aside a third of the machine's."""

ANSWER_SECONDS = 20.0

ENDED_BY = (signal.SIGINT, signal.SIGTERM)


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
    before = {number: signal.getsignal(number) for number in ENDED_BY}
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
        own = {"include_dashboard": False, "object_store_memory": LOCAL_STORE_BYTES, "num_cpus": _cores()}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
    except Exception as error:  # Ray raises what it likes, even plain Exception
        said = " ".join(str(error).split()) or type(error).__name__
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


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


_PACKAGE = Path(__file__).parent
