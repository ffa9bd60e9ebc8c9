"""Processor, memory and compilers of this machine."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from jcl.parallel.machine import core_quota, cores, memory_limit, size

__all__ = ["describe_machine", "find_compiler"]

CPUINFO = Path("/proc/cpuinfo")


def describe_machine() -> dict[str, str]:
    """Lines on the system, its processor, cores and memory, by what they are of."""
    limit, quota = memory_limit(), core_quota()
    less = f", of which its control group gives the time of {quota:g}" if quota is not None else ""
    return {
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()} ({sys.executable})",
        "processor": _processor(),
        "cores": f"{cores()} of {os.cpu_count()} may be used{less}",
        "memory": size(limit) if limit is not None else "not known here",
        "C compiler": find_compiler(("cc", "gcc", "clang")),
        "C++ compiler": find_compiler(("g++", "clang++")),
    }


def find_compiler(names: tuple[str, ...]) -> str:
    """The first of these that is there, as it names itself."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    return _said([found, "--version"]) or found if found else f"none ({', '.join(names)})"


def _processor() -> str:
    if CPUINFO.is_file():
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        if named:
            return named[0]
    if platform.system() == "Darwin" and (said := _said(["sysctl", "-n", "machdep.cpu.brand_string"])):
        return said
    return platform.processor() or platform.machine()


def _said(command: list[str]) -> str:
    """The first line that a command prints, or nothing."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace").strip().partition("\n")[0]
