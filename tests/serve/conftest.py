"""One run with a known network, and applications that serve it."""

from pathlib import Path

import pytest

from support.serving import Served, make_run, save_scan
from support.shared import made_once


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "serve-run", make_run)


@pytest.fixture(scope="session")
def site(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """One to which nothing is sent."""
    return Served(run, tmp_path_factory.mktemp("site") / "room")


@pytest.fixture
def served(run: Path, tmp_path: Path) -> Served:
    return Served(run, tmp_path / "room", keep=tmp_path / "kept", max_mb=1, max_unpacked_mb=2, queue=3)


@pytest.fixture
def a_scan(tmp_path: Path) -> Path:
    return save_scan(tmp_path / "p1.nii.gz")
