"""What this process may use of the machine: cores, memory, room on a disk; and what it has used.

A container or a job of a cluster has less than the machine: on Linux its control group says how much.
"""

import contextlib
import ctypes
import math
import multiprocessing
import os
import shutil
import sys
from pathlib import Path

__all__ = ["core_quota", "cores", "duration", "folder_size", "free_disk", "memory_limit", "peak_memory", "size"]

GROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")

UNLIMITED = 1 << 60
"""Bytes from which a limit is none: control groups of version 1 have a huge number there."""


def cores() -> int:
    """Cores that this process may use: of those it may run on, what its control group gives the time of."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = core_quota()
    return there if quota is None else max(1, min(there, math.ceil(quota)))


def core_quota() -> float | None:
    """Processor time that the control group may use, in cores; None where it has no limit."""
    shares: list[float] = []
    for folder in _groups("cpu"):
        limit, _, period = _read(folder / "cpu.max").partition(" ")
        limit = limit or _read(folder / "cpu.cfs_quota_us")
        period = period or _read(folder / "cpu.cfs_period_us")
        if limit.isdecimal() and period.isdecimal() and int(period):
            shares.append(int(limit) / int(period))
    return min(shares, default=None)


def memory_limit() -> int | None:
    """Bytes of memory that this process may use: the machine's, or its control group's if that is less."""
    found = [size for folder in _groups("memory") for size in _limits(folder) if size < UNLIMITED]
    return min([*found, *_physical()], default=None)


def peak_memory() -> int | None:
    """Bytes of memory that this process and those it has started have taken at most; None where nothing tells."""
    children = [child.pid for child in multiprocessing.active_children()]
    sizes = [_peak(PROC / str(number) / "status") for number in (os.getpid(), *children)]
    if any(sizes):
        return sum(sizes)
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def free_disk(folder: Path) -> int | None:
    """Bytes that are free where `folder` is, or will be; None where nothing tells."""
    there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), None)
    try:
        return shutil.disk_usage(there).free if there else None
    except (AttributeError, OSError):  # there are systems on which Python cannot ask
        return None


def folder_size(folder: Path) -> int:
    """Bytes of the files below a folder, in which others may be at work."""
    total = 0
    for root, _, names in os.walk(folder):  # passes over folders that are gone
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(root, name).stat().st_size
    return total


def duration(seconds: float) -> str:
    """As people say it: 40 s, 12 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Bytes as people say them: 3 MB, 1.3 GB."""
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def _groups(controller: str) -> list[Path]:
    """Folders of this process's control groups for a controller, and of those above: each may have a limit."""
    found: list[Path] = []
    for line in _read(PROC / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if controller in names.split(",") or not names:
            base = GROUPS / controller if names else GROUPS
            # within a container the path may be the host's, of which only the root is seen
            own = base / path.lstrip("/")
            found += [folder for folder in (own, *own.parents) if folder.is_relative_to(base)]
    return list(dict.fromkeys(found))


def _limits(folder: Path) -> list[int]:
    texts = (_read(folder / name) for name in ("memory.max", "memory.limit_in_bytes"))
    return [int(text) for text in texts if text.isdecimal()]


def _physical() -> list[int]:
    try:
        if os.name == "nt":
            return [_physical_windows()]
        return [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, OSError, ValueError):
        return []


def _physical_windows() -> int:
    status = (ctypes.c_ulonglong * 8)()  # MEMORYSTATUSEX: two numbers of 32 bits, then seven of 64
    ctypes.memmove(status, ctypes.byref(ctypes.c_ulong(ctypes.sizeof(status))), 4)
    getattr(ctypes, "windll").kernel32.GlobalMemoryStatusEx(status)  # noqa: B009  not known to other systems
    return int(status[1])


def _peak(status: Path) -> int:
    """Bytes by the line `VmHWM` of a process's status."""
    lines = [line for line in _read(status).splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) * 1024 if lines else 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
