"""Files that are there whole or not at all, and JSON that vouches for itself by a digest."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from glob import escape
from pathlib import Path
from typing import Any, cast

from jcl.errors import DataError
from jcl.seal import SEAL, changed, sealed

__all__ = [
    "FETCH",
    "NO_FILE",
    "DamagedError",
    "WriteError",
    "check_apart",
    "check_regular",
    "check_seal",
    "clear_left",
    "is_full",
    "is_sealed",
    "json_problem",
    "read_digested_json",
    "read_error",
    "read_json",
    "real_path",
    "sync_folder",
    "write_atomically",
    "write_digested_json",
    "write_error",
    "write_json",
]


FETCH = "fetch it, as with `git annex get` or `git lfs pull`, or copy it again"
"""What to do about a file that stands for another one which is not here."""


NO_FILE = "is a pipe, a socket or a device, where a file is needed"


class WriteError(DataError):
    """A file could not be written (disk full, no permission); not the fault of any case."""


class DamagedError(DataError):
    """The file is there, but not as it was written."""


def is_full(error: OSError) -> bool:
    """Whether there was no room: on the disk, for this user, or in one file."""
    return error.errno in [getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG")]


def write_error(path: Path, error: OSError) -> WriteError:
    """The error to raise when writing `path` failed."""
    repair = "; free some space and run the same command again" if is_full(error) else ""
    return WriteError(f"{path}: cannot be written ({error.strerror or error}){repair}")


def read_error(path: Path, error: OSError, repair: str = "") -> DataError:
    """The error to raise when reading `path` failed, in the words of who gave the path.

    Args:
        path: what was to be read.
        error: what the system says.
        repair: what to do where the file is not there or not whole; else what fits the error.
    """
    if error.errno == errno.ENOENT and path.is_symlink():
        return DataError(f"{path}: cannot be read (a link to a file that is not there); {repair or FETCH}")
    known = {
        errno.ENOENT: ("no such file", "check its name"),
        errno.EISDIR: ("it is a folder, where a file is needed", "give the file"),
        errno.ENOTDIR: ("no such file: a part of its path is not a folder", "check its path"),
        errno.ELOOP: ("a link that leads to itself", "remove it"),
        errno.EACCES: ("permission denied", "change its permissions"),
        errno.EPERM: ("permission denied", "change its permissions"),
        errno.EIO: ("the disk or network reports an error", "copy it again from its origin"),
    }
    reason, hint = known.get(error.errno or 0, (error.strerror or str(error), "copy it again from its origin"))
    lost = error.errno not in (errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP)
    return DataError(f"{path}: cannot be read ({reason}); {repair if repair and lost else hint}")


def check_regular(path: Path) -> None:
    """See that a path, if there is something, is a file or folder: a pipe would make who reads it wait for ever.

    Raises:
        DataError: it is a pipe, a socket or a device.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # whoever opens it says so
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise DataError(f"{path}: {NO_FILE}; leave it out")


def json_problem(error: Exception) -> str:
    """Where JSON text is wrong, for those who wrote it."""
    if isinstance(error, json.JSONDecodeError):
        if not error.doc.strip():
            return "it is empty"
        wrong = "text after its end" if "Extra data" in error.msg else "a comma, quote or bracket too many or too few"
        return f"line {error.lineno}, column {error.colno}: {wrong}"
    return "nested too deeply" if isinstance(error, RecursionError) else "it is not text in UTF-8"


def write_atomically(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write a file that is there whole or not at all; with `sync` also after a power cut.

    Raises:
        WriteError: the disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if sync:
            sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise write_error(path, error) from error
        raise  # a signal


def clear_left(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes were writing in `folder`; whoever calls it is the only one that writes there.

    Args:
        folder: only what lies in it directly is looked at; it need not be there.
        name: of the one file or folder whose writing was cut short; else of any.

    Raises:
        OSError: something cannot be removed.
    """
    for left in folder.glob(f".{'*' if name is None else escape(name)}.*.tmp"):
        if left.name.rsplit(".", 2)[1].isdecimal():  # a process
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def real_path(path: Path) -> Path:
    """The path without links; of one that leads to itself, what can be said of it (`Path.resolve` raises there)."""
    return Path(os.path.realpath(path))


def check_apart(folder: Path, names: Iterable[str]) -> None:
    """See that files of these names can be kept apart in a folder that is there.

    Raises:
        DataError: two differ in capitals alone, and the disk takes them for one, as those of macOS and Windows do.
    """
    other = folder.with_name(folder.name.swapcase())
    if other.name == folder.name or not other.exists() or not other.samefile(folder):
        return
    known: dict[str, str] = {}
    for name in names:
        first = known.setdefault(name.casefold(), name)
        if first != name:
            raise DataError(f"{folder}: this disk takes {first} and {name} for one name; rename one of them")


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` outlast a power cut (POSIX; elsewhere folders cannot be synced)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, value: Any, *, seal: bool = False) -> None:
    """Write JSON atomically; NaN is refused, since other programs cannot read it.

    Args:
        path: the file.
        value: what to write; a mapping, if it is sealed.
        seal: whether a later `read_json` is to notice any change of its values (see `jcl.seal`).

    Raises:
        DataError: there is a NaN or an infinite number in it.
        WriteError: the disk is full, or the file cannot be written.
    """
    content: Any = sealed(value) if seal else value
    try:
        text = json.dumps(content, indent=1, allow_nan=False)
    except ValueError as error:
        raise DataError(f"{path}: not written, since there is a NaN or an infinite number in it") from error
    write_atomically(path, f"{text}\n".encode())


def read_json(path: Path) -> Any:
    """Read JSON, checked against its seal if it has one; the seal is not in what is returned.

    Raises:
        DamagedError: its values are not those that were written.
        DataError: the file is missing or not JSON.
    """
    content = _parsed(path)
    return check_seal(path, cast("dict[str, Any]", content)) if isinstance(content, dict) else content


def check_seal(
    path: Path, content: dict[str, Any], repair: str = "restore it, or run again the command that wrote it"
) -> dict[str, Any]:
    """The values of a file without their seal, which has to fit if there is one.

    Raises:
        DamagedError: it does not.
    """
    if wrong := changed(content):
        names = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise DamagedError(f"{path}: changed since it was written (not as sealed: {names!r:.120}); {repair}")
    return {key: value for key, value in content.items() if key != SEAL}


def is_sealed(path: Path) -> bool:
    """Whether a JSON file has a seal; those of earlier versions have none.

    Raises:
        DataError: the file is missing or not JSON.
    """
    content = _parsed(path)
    return isinstance(content, dict) and SEAL in content


def _parsed(path: Path) -> Any:
    check_regular(path)
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise read_error(path, error) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON file ({json_problem(error)}); it is damaged") from error


def write_digested_json(path: Path, content: Mapping[str, Any], *, sync: bool = True) -> None:
    """Write JSON atomically, its own SHA-256 under `digest`. File names that are not UTF-8 come back as they were.

    Raises:
        WriteError: the disk is full, or the file cannot be written.
    """
    text = json.dumps({**content, "digest": _digest(content)}, indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode("utf-8", "surrogateescape"), sync=sync)


def read_digested_json(path: Path, *, version: int, repair: str) -> dict[str, Any]:
    """Read a file of `write_digested_json`, verified; `digest` is in what is returned.

    Args:
        path: the file.
        version: what has to be its `format`.
        repair: what to do where it is damaged, for the message.

    Raises:
        DamagedError: it is not as it was written.
        DataError: it cannot be read, or is of another format version.
    """
    check_regular(path)
    try:
        content: object = json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
        values = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
        found = _digest({key: value for key, value in values.items() if key != "digest"})
    except OSError as error:
        raise read_error(path, error, repair) from error
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path}: damaged ({json_problem(error)}); {repair}") from error
    digest = values.pop("digest", None)
    if digest == found and values.get("format") == version:
        return {**values, "digest": digest}
    if isinstance(values.get("format"), int) and values["format"] != version:
        raise DataError(f"{path}: format version {values['format']}, this jcl reads {version}; prepare the store again")
    raise DamagedError(f"{path}: damaged (it does not have its digest); {repair}")


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogateescape")).hexdigest()
