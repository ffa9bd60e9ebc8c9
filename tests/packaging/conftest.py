"""Wheel and sdist, built once for all tests of them."""

import importlib.util
from pathlib import Path

import pytest

from support.distributions import build
from support.documents import ROOT
from support.shared import made_once


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist of this checkout."""
    if not importlib.util.find_spec("hatchling"):
        pytest.skip("hatchling is not installed, by which the distributions are built")
    return made_once(tmp_path_factory, "distributions", lambda out: build(ROOT, out))


@pytest.fixture(scope="session")
def wheel(distributions: Path) -> Path:
    (found,) = distributions.glob("*.whl")
    return found
