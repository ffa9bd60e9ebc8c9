"""Calls that never end, in several ways, or fail; and which processes are there."""

import ctypes
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from support.clusters import descendants, processes, status_of

STARTER = """
import sys
sys.path[:0] = {path!r}
from support import hangs
from jcl.stages import prepare as stage
stage.prepare_case = hangs.{way}
if __name__ == "__main__":
    from jcl.__main__ import main
    raise SystemExit(main())
"""


def ignores(*_: Any) -> None:
    """SIGTERM has no effect."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1000)


def stuck(*_: Any) -> None:
    """In C, where no signal interrupts it."""
    _lock_twice(ctypes.CDLL(None))


def holds(*_: Any) -> None:
    """The same, and no other thread of Python runs."""
    _lock_twice(ctypes.PyDLL(None))


def _lock_twice(library: Any) -> None:
    mutex = ctypes.create_string_buffer(256)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)


def fails(*_: Any) -> None:
    raise RuntimeError("it never works")


def is_alive(number: int) -> bool:
    """Whether a process runs: one that has ended may wait for somebody to notice."""
    return status_of(number).split()[1:2] not in ([], ["Z"], ["X"])


def family(process: "subprocess.Popen[Any]") -> list[int]:
    """A process and those that it and they have started."""
    return [process.pid, *descendants(process.pid)]


def of_group(number: int) -> list[int]:
    """The processes of a process group."""
    return [each for each in processes() if is_alive(each) and status_of(each).split()[3:4] == [str(number)]]


def preparing(folder: Path, way: str, *words: object) -> "subprocess.Popen[str]":
    """The command `jcl prepare`, of which each case takes for ever."""
    script = folder / f"{way}.py"
    script.write_text(STARTER.format(path=[str(Path(__file__).parents[1]), *sys.path], way=way))
    words = (sys.executable, script, "prepare", *words)
    return subprocess.Popen(list(map(str, words)), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
