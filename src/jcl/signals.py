"""The signals that ask a program to end, in one place: who answers them, and how a training saves before it does.

A program (`jcl.__main__`) ends at once before its command has begun and after it is done. In between the first signal
raises KeyboardInterrupt where the command is, or only sets a mark where a training can save, and a second one ends it.
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from jcl.errors import Interrupted

__all__ = [
    "ASKING",
    "StopRequest",
    "answer_from_now_on",
    "asked_to_end",
    "deaf_to_ctrl_c",
    "end_at_once",
    "end_soon",
    "handled",
    "interrupted",
    "raise_once",
]

ASKING = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
"""Ctrl-C, what a system or a scheduler sends, and a terminal that is closed."""

AGAIN_SECONDS = 0.05
"""After which an interruption that could not be passed on, as in a callback or an import, is tried again."""

Handler = Callable[[int, FrameType | None], None]

_came: list[int] = []
"""Signals that the program was sent while its command ran."""


@contextlib.contextmanager
def handled(handler: Handler) -> Generator[None]:
    """Context in which `handler` answers the signals; not where it is not the main thread, whose caller does.

    A closed terminal stays without effect where it was (`nohup`).
    """
    before = _set(handler)
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def _set(handler: Handler) -> dict[int, Any]:
    """Have `handler` answer; returns who did before."""
    before: dict[int, Any] = {}
    for number in ASKING:
        if number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) is signal.SIG_IGN:
            continue
        with contextlib.suppress(ValueError):
            before[number] = signal.signal(number, handler)
    return before


def end_at_once(number: int, frame: FrameType | None) -> None:
    """Handler of a program that has nothing to put in order: one line, and exit code 130."""
    with contextlib.suppress(OSError):
        cursor = "\x1b[?25h" if os.isatty(2) else ""  # which a progress bar hides
        os.write(2, f"{cursor}jcl: error: interrupted\n".encode())
    os._exit(130)


def answer_from_now_on() -> None:
    """For a program: until its very end `end_at_once` answers, where nothing else does; then it is too late to ask."""
    _set(end_at_once)
    atexit.register(_ignore)


def _ignore() -> None:
    """Have the signals do nothing, whichever thread they reach; only ignored ones does Python leave as they are."""
    for number in ASKING:
        signal.signal(number, signal.SIG_IGN)


def end_soon(seconds: float) -> None:
    """For a program: so long after the first signal it ends at once, also where it is held up outside of Python."""
    if os.name != "posix":
        return
    came, there = os.pipe()
    os.set_blocking(there, False)
    signal.set_wakeup_fd(there, warn_on_full_buffer=False)

    def watch() -> None:
        while os.read(came, 1)[0] not in ASKING:
            pass
        time.sleep(seconds)
        end_at_once(signal.SIGINT, None)

    threading.Thread(target=watch, name="jcl-end-soon", daemon=True).start()


@contextlib.contextmanager
def deaf_to_ctrl_c() -> Generator[None]:
    """Context in which processes are begun that leave Ctrl-C to this one, as a terminal sends it to all of them.

    What they do of their own comes too late: while they import, each would print where it was.
    """
    if not hasattr(signal, "pthread_sigmask"):  # as on Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # its start would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def raise_once(number: int, frame: FrameType | None) -> None:
    """Handler while a command runs: KeyboardInterrupt, so that what was begun is put in order; then `end_at_once`.

    Not amid an import: compiled modules call Python from where C++ cannot pass an error on, and would abort. It comes
    when they are imported.
    """
    if _came:
        end_at_once(number, frame)
    _came.append(number)
    if _imports(frame):
        _try_again()
        return
    sys.unraisablehook = _raise_again
    raise KeyboardInterrupt


def _imports(frame: FrameType | None) -> bool:
    """Whether a module is being imported where the signal came."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib."):
            return True
        frame = frame.f_back
    return False


def _try_again() -> None:
    """Have the first signal come once more, unless a second one comes before."""

    def again() -> None:
        _came.clear()
        if hasattr(signal, "pthread_kill"):  # to the main thread, which may wait outside of Python
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        else:
            signal.raise_signal(signal.SIGINT)

    timer = threading.Timer(AGAIN_SECONDS, again)
    timer.daemon = True
    timer.start()


def asked_to_end() -> bool:
    """Whether a signal asked this program to end: what fails after it is no fault."""
    return bool(_came)


def _raise_again(unraisable: Any) -> None:
    """In a finaliser or callback the interpreter prints an interruption and goes on: it has to come once more."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    _try_again()


class StopRequest:
    """Context in which a signal only sets `asked`, so that a step can be finished and saved.

    A second signal ends the program at once; outside of the program of the command line it raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.asked = False
        self.context = handled(self._ask)
        self.ends = signal.getsignal(signal.SIGINT) is raise_once

    def __enter__(self) -> "StopRequest":
        self.context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.context.__exit__(kind, error, trace)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and self.ends:
            end_at_once(number, frame)
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def interrupted(run: Path, step: int) -> Interrupted:
    """The error of a run that was stopped and saved."""
    return Interrupted(f"{run}: stopped after step {step} and saved; the same command with --resume goes on")
