"""What never ends, in several ways, and what dies: as a method of pre-training, and as the preparation of a case."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from torch import Tensor

from jcl.backbones import Backbone
from jcl.methods import Method
from support.clusters import descendants, processes, status_of

WAYS = ("ignores", "stuck", "holds")
"""SIGTERM has no effect; code in C that no signal interrupts; the same, and no other thread of Python runs."""

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
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1000)


def stuck(*_: Any) -> None:
    _lock_twice(ctypes.CDLL(None))


def holds(*_: Any) -> None:
    _lock_twice(ctypes.PyDLL(None))


def _lock_twice(library: Any) -> None:
    mutex = ctypes.create_string_buffer(256)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)


def dies(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fails(*_: Any) -> None:
    raise RuntimeError("it never works")


class Hangs(Method):
    """A method whose first loss is not to be had."""

    def __init__(self, backbone: Backbone, *, way: str = "stuck") -> None:
        """Nothing is learned.

        Args:
            way: the function of this module that is called.
        """
        super().__init__(backbone)
        self.way = way

    def forward(self, views: tuple[Tensor, ...], batch: Any) -> dict[str, Tensor]:
        """Says that it has begun, on the disk, and never returns."""
        if begun := os.environ.get("JCL_BEGUN"):
            Path(begun, str(os.getpid())).touch()
        globals()[self.way]()
        raise AssertionError


def is_alive(number: int) -> bool:
    """Whether a process runs: one that has ended may wait for somebody to notice."""
    return status_of(number).split()[1:2] not in ([], ["Z"], ["X"])


def family(process: "subprocess.Popen[Any]") -> list[int]:
    """A process and those that it and they have started."""
    return [process.pid, *descendants(process.pid)]


def of_group(number: int) -> list[int]:
    """The processes of a process group."""
    return [each for each in processes() if is_alive(each) and status_of(each).split()[3] == str(number)]


def preparing(folder: Path, way: str, *words: object) -> "subprocess.Popen[str]":
    """The command `jcl prepare`, of which each case takes for ever."""
    script = folder / f"{way}.py"
    script.write_text(STARTER.format(path=[str(Path(__file__).parents[1]), *sys.path], way=way))
    words = (sys.executable, script, "prepare", *words)
    return subprocess.Popen(list(map(str, words)), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
