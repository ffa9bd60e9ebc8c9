"""What a process of a pool does (`jcl.parallel.pool`): call after call, until its parent has no more or is gone."""

import contextlib
import os
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from jcl.parallel.output import steady_output

__all__ = ["READY", "answer", "serve"]

READY = "ready"
"""What a process says first, once it can take calls."""


def serve(pipe: "Connection[Any, Any]", lifeline: "Connection[Any, Any]", setup: Callable[[], None]) -> None:
    """Be a worker process, of a group of its own with all that it starts.

    Args:
        pipe: where calls come from, and answers go to.
        lifeline: nothing comes from it; when it ends the parent has, and so does the group.
        setup: called first.
    """
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C in a terminal reaches the parent alone, which passes it on
    for number in ("SIGINT", "SIGHUP"):
        if hasattr(signal, number):
            signal.signal(getattr(signal, number), signal.SIG_IGN)
    _end_with(lifeline)
    steady_output()
    setup()
    with contextlib.suppress(EOFError, OSError):
        pipe.send(READY)
        while True:
            result, error = answer(*pipe.recv())
            if error:  # its trace would be lost on the way
                error.add_note("".join(traceback.format_exception(error)))
            pipe.send((result, error))


def answer(function: Callable[..., Any], arguments: Sequence[Any]) -> tuple[Any, Exception | None]:
    """Result and error of a call."""
    try:
        return function(*arguments), None
    except Exception as error:
        return None, error


def _end_with(lifeline: "Connection[Any, Any]") -> None:
    """Have the group killed when the lifeline ends.

    Linux does that itself, also while code in C runs that lets no thread of Python's do anything.
    """
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl  # not above: Windows has none

        number = lifeline.fileno()
        fcntl.fcntl(number, fcntl.F_SETOWN, -os.getpid())
        fcntl.fcntl(number, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(number, fcntl.F_SETFL, fcntl.fcntl(number, fcntl.F_GETFL) | os.O_ASYNC)
    # other systems; and where it has ended already
    threading.Thread(target=_end_after, args=(lifeline,), daemon=True).start()


def _end_after(lifeline: "Connection[Any, Any]") -> None:
    lifeline.poll(None)
    if hasattr(os, "killpg"):
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)
