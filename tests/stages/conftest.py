"""A small prepared store with labels, made once."""

from pathlib import Path

import pytest

from jcl.config import PrepareConfig
from jcl.stages.prepare import prepare
from support.scans import write_volumes
from support.shared import made_once


@pytest.fixture(scope="session")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a store of six labelled patients with six slices of 32 x 32 each."""

    def make(out: Path) -> None:
        prepare(PrepareConfig(source=write_volumes(out.with_name("scans")), out=out, labels="1=ball", workers=1))

    return made_once(tmp_path_factory, "store", make)
