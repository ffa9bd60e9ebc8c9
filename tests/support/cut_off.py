"""The program, cut off at a moment that is counted instead of timed; for tests, which run it in copies of a process.

A moment is just before a change of a file or folder below some folder: it is opened for writing, made, renamed or
removed. There the process is killed, or its files may not grow beyond some bytes, and growing kills it: what it writes
next is left half-written.
"""

import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir")
WRITES = os.O_WRONLY | os.O_RDWR
HALF = 100
"""Bytes of a file that is left half-written."""


def outcome(function: Callable[[], Any], folder: Path, *, at: int | None = None, half: bool = False) -> tuple[int, int]:
    """How a copy of this process that calls a function ended, and how many changes below `folder` it began.

    Args:
        function: what it does; all that it imports is imported already.
        folder: where changes count.
        at: the number of the change that it does not come to, from 0; else it comes to its end.
        half: it comes to that change, but not to the end of what it writes there.

    Returns:
        Its exit code (3 for an error, whose line is printed; below 0 the number of the signal), and the count.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os._exit(_counted(function, os.fspath(folder), writing, at, half=half))
    os.close(writing)
    count = 0
    with os.fdopen(reading, "rb") as told:
        count = len(told.read())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), count


def _counted(function: Callable[[], Any], folder: str, told: int, at: int | None, *, half: bool) -> int:
    seen = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if not _is_change(event, arguments, folder):
            return
        if seen == at:
            _cut(half=half)
        seen += 1
        os.write(told, b".")

    sys.addaudithook(watch)
    try:
        function()
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 3
    return 0


def _cut(*, half: bool) -> None:
    if not half:
        os.kill(os.getpid(), signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, HALF))


def _is_change(event: str, arguments: Sequence[Any], folder: str) -> bool:
    if event not in CHANGES and not (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES):
        return False
    if not isinstance(arguments[0], str | bytes | os.PathLike):
        return False
    return Path(os.fsdecode(arguments[0])).absolute().is_relative_to(folder)
