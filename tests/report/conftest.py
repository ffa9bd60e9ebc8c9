"""A benchmark with models, written once."""

import pytest

from support.keptmodels import write_benchmark


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory):
    """Benchmark, its only table, and its store."""
    return write_benchmark(tmp_path_factory.mktemp("kept"))
