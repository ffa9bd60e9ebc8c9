"""A command of the program in a process of its own, which can be watched, signalled and cut off."""

import atexit
import ctypes
import os
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import jcl
import jcl.__main__ as program

BECOME_PARENT_OF_ORPHANS = 36
"""PR_SET_CHILD_SUBREAPER of Linux's prctl."""


def take_orphans() -> None:
    """From here on processes whose parent dies become this process's children, so that none is overlooked."""
    if ctypes.CDLL(None, use_errno=True).prctl(BECOME_PARENT_OF_ORPHANS, 1, 0, 0, 0):
        raise SystemExit("soak.py needs Linux: the processes that a command leaves could not be seen here")


class Work:
    """A running command; what it says is read into `said`.

    Args:
        arguments: those of the command line.
        folder: where it runs.
        fresh: begin Python anew, as a shell does; else a copy of this process, which has imported all of it, runs it.
    """

    def __init__(self, arguments: Sequence[str], folder: Path, *, fresh: bool) -> None:
        self.said, self.code = b"", None
        self.reading, writing = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become(arguments, folder, writing, fresh=fresh)
        os.close(writing)
        os.set_blocking(self.reading, False)

    def poll(self) -> int | None:
        """Its exit code, or the number of the signal that ended it below 0; None while it runs."""
        self._listen()
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
                self._listen()
        return self.code

    def wait(self, seconds: float) -> bool:
        """Whether it ended within that time."""
        end = time.monotonic() + seconds
        while self.poll() is None and (left := end - time.monotonic()) > 0:
            if self.reading is not None:
                select.select([self.reading], [], [], min(left, 0.005))
            else:
                time.sleep(0.005)
        return self.code is not None

    def wait_until_it_answers(self) -> None:
        """Until it has its own handler of signals: before, Python itself would answer."""
        while self.poll() is None:
            for line in _status(self.pid):
                if line.startswith("SigCgt") and int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
                    return
            time.sleep(0.001)

    def descendants(self) -> list[int]:
        """Processes that it has started, and those that these have."""
        found, parents = [], {self.pid}
        while parents:
            parents = {pid for pid in _processes() if _parent(pid) in parents}
            found += sorted(parents)
        return found

    def has_open(self, folder: Path) -> bool:
        """Whether it, or a process that it has started, has a file open below a folder."""
        begins = f"{folder}{os.sep}"
        return any(path.startswith(begins) for pid in (self.pid, *self.descendants()) for path in _open_files(pid))

    def stop_listening(self) -> None:
        """Close the pipe that it writes to."""
        if self.reading is not None:
            os.close(self.reading)
        self.reading = None

    def close(self) -> None:
        """End it if it runs, and reap it."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait(60)
        self.stop_listening()

    def _listen(self) -> None:
        while self.reading is not None:
            try:
                more = os.read(self.reading, 65536)
            except BlockingIOError:
                return
            if not more:
                self.stop_listening()
            self.said += more


def orphans(seconds: float) -> list[str]:
    """What still runs of the commands that have ended, after some time to end; it is killed."""
    end = time.monotonic() + seconds
    while left := [pid for pid in _processes() if _parent(pid) == os.getpid()]:
        for pid in left:
            os.waitpid(pid, os.WNOHANG)
        left = [pid for pid in left if _status(pid)]
        if left and time.monotonic() > end:
            names = [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:200] for pid in left]
            for pid in left:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            return names
        time.sleep(0.01)
    return []


def _become(arguments: Sequence[str], folder: Path, output: int, *, fresh: bool) -> None:
    """In the copy of this process: the command, to its end."""
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        nowhere = os.open(os.devnull, os.O_RDONLY)
        for handle, number in ((nowhere, 0), (output, 1), (output, 2)):
            os.dup2(handle, number)
        os.closerange(3, 256)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ["PYTHONPATH"] = str(Path(jcl.__file__).parents[1])
        os.environ["TMPDIR"] = str(folder / "tmp")
        if fresh:
            os.execv(sys.executable, [sys.executable, "-m", "jcl", *arguments])
        tempfile.tempdir = None
        sys.argv = ["jcl", *arguments]
        sys.modules["__main__"] = program  # which the processes it starts would import
        code = program.main()
    except BaseException:
        traceback.print_exc()
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _open_files(pid: int) -> list[str]:
    try:
        return [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []


def _status(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return []


def _parent(pid: int) -> int | None:
    return next((int(line.split()[1]) for line in _status(pid) if line.startswith("PPid")), None)
