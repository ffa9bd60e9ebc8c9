"""What is made once in a session of tests, by whichever of the processes that run them side by side comes first."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The path that `make` was given to write to; tests only read what is there."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # of all processes
    out = base / "shared" / name / "made"
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(out.parent / "lock"):
        if not (out.parent / "done").exists():
            make(out)
            (out.parent / "done").touch()
    return out
