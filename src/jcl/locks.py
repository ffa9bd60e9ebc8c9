"""One writer a folder: who writes holds a lock, which the system takes back when the process is gone.

Beside the lock lies who holds it. Where it outlived its process on this machine the lock is taken over; a note of
another machine is believed, since not every network disk passes locks on.
"""

import contextlib
import json
import os
import platform
import sys
from collections.abc import Generator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from jcl.errors import UsageError
from jcl.files import clear_left, read_json, write_error

__all__ = ["LOCK", "forget_holder", "is_lock", "locked", "locked_file"]

LOCK, HOLDER = ".lock", ".lock.json"

BOOT = Path("/proc/sys/kernel/random/boot_id")
"""One for each start of a machine, also within its containers, whose names change."""


def is_lock(path: Path) -> bool:
    """Whether the file belongs to a lock: it does not make a folder one with other things in it."""
    return path.name.startswith(LOCK)


@contextlib.contextmanager
def locked(
    folder: Path, *, wait: str | None = None, shown: Path | None = None, writes: Path | None = None
) -> Generator[None]:
    """Context of the only process that writes to `folder`, which is made; if left without content, it is removed.

    Where a process before it was killed, the files are removed that it was writing.

    Args:
        folder: where to write.
        wait: what to say before waiting for another; else it is an error.
        shown: what to call it.
        writes: the folder that is written to, if it is another one.

    Raises:
        UsageError: another process holds it.
        WriteError: the folder cannot be written.
    """
    import filelock  # not above: worker processes import stages, and lock nothing

    shown = shown or folder
    made = _missing(folder) or ([folder] if writes else [])  # one that a killed process made has no content either
    lock = filelock.FileLock(folder / LOCK)
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _acquire(lock, folder, shown, wait)
            if _take_over(folder, shown, held=lock.is_locked):
                clear_left(writes or folder)
            (folder / HOLDER).write_text(json.dumps(_me()), encoding="utf-8")
        except OSError as error:
            raise write_error(shown, error) from error
        yield
    finally:
        if lock.is_locked or _read(folder).get("pid") == os.getpid():
            _clear(folder, made, keep=wait is not None)
        lock.release()


def _acquire(lock: Any, folder: Path, shown: Path, wait: str | None) -> None:
    try:
        lock.acquire(timeout=0)
    except TimeoutError:
        holder = _read(folder)
        if wait is None:
            raise UsageError(_busy(shown, holder)) from None
        print(f"{shown}: {wait} ({_in_words(holder)})", file=sys.stderr, flush=True)
        lock.acquire()
    except NotImplementedError:  # of a disk that has no locks: what is written down has to do
        pass


def _clear(folder: Path, made: list[Path], *, keep: bool) -> None:
    """Remove our note, the lock unless others wait with it open, and folders that we made and nobody filled."""
    with contextlib.suppress(OSError):
        if _read(folder).get("pid") in (None, os.getpid()):
            (folder / HOLDER).unlink(missing_ok=True)
        empty = all(is_lock(path) for path in folder.iterdir())
        if empty or not keep:
            (folder / LOCK).unlink(missing_ok=True)
        for each in made if empty else ():
            each.rmdir()


def locked_file(out: Path) -> AbstractContextManager[None]:
    """As `locked`, for what is written beside other things, or put in its place at the end."""
    return locked(out.with_name(f".{out.name}.writing"), shown=out, writes=out.parent)


def forget_holder(folder: Path) -> None:
    """For who knows by another lock that nobody writes to `folder`, on whatever machine."""
    (folder / HOLDER).unlink(missing_ok=True)


def _take_over(folder: Path, shown: Path, *, held: bool) -> bool:
    """Whether a process held it that is gone.

    Raises:
        UsageError: a note of another machine, or, where there are no locks, of a process that is there.
    """
    holder = _read(folder)
    if not holder:
        return False
    me = _me()
    same_boot = holder.get("boot") == me["boot"] and me["boot"] is not None
    if holder.get("host") != me["host"] and not same_boot:
        raise UsageError(
            f"{shown}: {_in_words(holder)} writes here; if that is long gone, delete {folder / HOLDER} and try again"
        )
    if not held and same_boot and Path("/proc", str(holder.get("pid"))).exists():
        raise UsageError(_busy(shown, holder))
    print(f"{shown}: {_in_words(holder)} ended without a word; going on in its place", file=sys.stderr, flush=True)
    return True


def _busy(shown: Path, holder: dict[str, Any]) -> str:
    return f"{shown}: {_in_words(holder)} writes here; wait for it, or choose another --out"


def _me() -> dict[str, Any]:
    boot = None
    with contextlib.suppress(OSError):
        boot = BOOT.read_text(encoding="ascii").strip()
    command = " ".join(["jcl", *sys.argv[1:2]])
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": platform.node(), "boot": boot, "since": since, "command": command}


def _read(folder: Path) -> dict[str, Any]:
    """The note beside the lock; nothing where there is none, or none that can be read."""
    with contextlib.suppress(Exception):
        content: object = read_json(folder / HOLDER)
        return cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    return {}


def _in_words(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    return "`{command}` (process {pid} of {host}, since {since})".format(
        **{key: str(holder.get(key))[:80] for key in ("command", "pid", "host", "since")}
    )


def _missing(folder: Path) -> list[Path]:
    """The folders that will have to be made, the innermost first."""
    return [each for each in (folder, *folder.parents) if not each.exists()]
