"""A small prepared store with labels, made once."""

from pathlib import Path

import pytest

from jcl.config import PrepareConfig
from jcl.stages.prepare import prepare
from scans import write_volumes


@pytest.fixture(scope="session")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a store of six labelled patients with six slices of 32 x 32 each."""
    base = tmp_path_factory.mktemp("stages")
    out = base / "store"
    prepare(PrepareConfig(source=write_volumes(base / "scans"), out=out, labels="1=ball", workers=1))
    return out
