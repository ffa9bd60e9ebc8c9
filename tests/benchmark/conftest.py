"""Scans and a store for the tests of the benchmark."""

from pathlib import Path

import pytest

from support.benchmark_folder import Bench, make_bench
from support.scans import write_volumes


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `scans`: six patients with six slices of 32 x 32 each."""
    base = tmp_path_factory.mktemp("benchmark")
    write_volumes(base / "scans")
    return base


@pytest.fixture
def bench(scans: Path, tmp_path: Path) -> Bench:
    """The tiny recipe with its store prepared, and nothing trained."""
    return make_bench(scans, tmp_path)
