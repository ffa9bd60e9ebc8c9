"""Standard output and error that may be lost (`| head`, a full disk, a closed terminal) without ending the work."""

import errno
import io
import os
import sys
from typing import Any

__all__ = ["steady_output"]


class _Steady(io.RawIOBase):
    """A file descriptor; what it does not take is dropped, and `lost` says with what error."""

    def __init__(self, handle: int) -> None:
        super().__init__()
        self.handle, self.lost = handle, 0

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """For those that ask whether it is a terminal, and how wide."""
        return self.handle

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return os.isatty(self.handle)

    def write(self, content: Any, /) -> int:
        """Bytes that were taken: all where they are lost."""
        if not self.lost:
            try:
                return os.write(self.handle, content)
            except OSError as error:
                self.lost = error.errno or errno.EIO
                _to_nowhere(self.handle)
        return len(content)


def steady_output() -> _Steady:
    """Make `sys.stdout` and `sys.stderr` of this process such that writing to them never fails; returns stdout's.

    Descriptors that are closed lead nowhere, so that no file of ours gets their number.
    """
    closed = [handle for handle in (0, 1, 2) if not _is_open(handle)]
    for handle in closed:
        _to_nowhere(handle)
    raw = {name: _Steady(handle) for name, handle in (("stdout", 1), ("stderr", 2))}
    for name, steady in raw.items():
        before = getattr(sys, name)
        if steady.handle in closed:
            steady.lost = errno.EBADF
        setattr(
            sys,
            name,
            io.TextIOWrapper(
                io.BufferedWriter(steady),
                encoding=getattr(before, "encoding", None) or "utf-8",
                errors="backslashreplace",
                line_buffering=True,
            ),
        )
    return raw["stdout"]


def _is_open(handle: int) -> bool:
    try:
        os.fstat(handle)
    except OSError:
        return False
    return True


def _to_nowhere(handle: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != handle:
        os.dup2(nowhere, handle)
        os.close(nowhere)
