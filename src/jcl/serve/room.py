"""The private folder in which uploads lie: gone when the server ends, and if that was killed, when the next begins."""

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

from jcl.files import write_error

__all__ = ["PREFIX", "clear_scratch", "private_room", "scratch_files", "scratch_of"]

PREFIX = "jcl-serve-"
LOCK = "lock"

YOUNG_SECONDS = 60.0
"""How old a room without a lock has to be to be left over: its server may be about to take it."""


@contextlib.contextmanager
def private_room() -> Generator[Path]:
    """A new folder that only this user can open; it is removed at the end, however that comes but for a kill.

    Raises:
        WriteError: there is no room for it.
    """
    import filelock  # not above: nothing is locked before a command runs

    above = Path(tempfile.gettempdir())
    _remove_left(above)
    try:
        room = Path(tempfile.mkdtemp(prefix=PREFIX, dir=above))
    except OSError as error:
        raise write_error(above, error) from error
    lock = filelock.FileLock(room / LOCK)
    try:
        lock.acquire()
        scratch_of(room).mkdir()
        yield room
    finally:
        lock.release()
        shutil.rmtree(room, ignore_errors=True)


@contextlib.contextmanager
def scratch_files(room: Path) -> Generator[None]:
    """Context in which temporary files lie in the room: what is written on the way is a part of a scan, too."""
    before, tempfile.tempdir = tempfile.tempdir, str(scratch_of(room))
    try:
        yield
    finally:
        tempfile.tempdir = before


def scratch_of(room: Path) -> Path:
    """Where temporary files of this server and of its process lie."""
    return room / "scratch"


def clear_scratch(room: Path) -> None:
    """Remove what a process that was ended has left there."""
    for each in scratch_of(room).glob("*"):
        shutil.rmtree(each, ignore_errors=True) if each.is_dir() else each.unlink(missing_ok=True)


def _remove_left(above: Path) -> None:
    """Remove the rooms of this user whose servers are gone: a lock ends with the process that has it."""
    import filelock

    for room in above.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, TimeoutError):
            about = room.lstat()
            if not stat.S_ISDIR(about.st_mode) or (hasattr(os, "getuid") and about.st_uid != os.getuid()):
                continue
            if not (room / LOCK).exists() and time.time() - about.st_mtime < YOUNG_SECONDS:
                continue
            with filelock.FileLock(room / LOCK, timeout=0):
                for each in room.iterdir():
                    if each.name != LOCK:
                        shutil.rmtree(each, ignore_errors=True) if each.is_dir() else each.unlink()
            shutil.rmtree(room, ignore_errors=True)
