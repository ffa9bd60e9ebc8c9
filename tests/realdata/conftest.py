"""The real volumes as stores, each prepared once for all tests that read it."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from jcl.config import PrepareConfig
from jcl.data.store import Store
from jcl.stages.prepare import prepare
from support.shared import made_once


@pytest.fixture(scope="session")
def store_of(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Store]:
    """The store of a set by its name, to be read only; processes that run tests side by side share it."""

    @cache
    def prepared(name: str) -> Store:
        return Store.open(
            made_once(
                tmp_path_factory, f"real-{name}", lambda out: prepare(PrepareConfig(source=realdata / name, out=out))
            )
        )

    return prepared
