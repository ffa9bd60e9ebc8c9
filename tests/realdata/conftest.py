"""The real volumes as stores, each prepared once for all tests that read it."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from filelock import FileLock

from jcl.config import PrepareConfig
from jcl.data.store import Store
from jcl.stages.prepare import prepare


@pytest.fixture(scope="session")
def store_of(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Store]:
    """The store of a set by its name, to be read only; processes that run tests side by side share it."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # of all processes

    @cache
    def prepared(name: str) -> Store:
        out = base / "realdata" / name
        out.parent.mkdir(exist_ok=True)
        with FileLock(out.with_suffix(".lock")):
            if not (out / "store.json").exists():
                prepare(PrepareConfig(source=realdata / name, out=out))
        return Store.open(out)

    return prepared
