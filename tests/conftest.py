"""What all tests share: checked types, one thread, and the folder of real volumes."""

import os
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "src"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side; before PyTorch is imported
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SOURCES), os.environ.get("PYTHONPATH")]))  # of children
os.environ.setdefault("MPLBACKEND", "Agg")

from jaxtyping import install_import_hook

install_import_hook("jcl", "typecheck.check")  # shapes and types of every call are checked

import pytest
import torch

torch.set_num_threads(1)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, for `-n auto`
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores: many tests wait for processes that they have started."""
    return len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)) + 1


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real volumes that $JCL_REALDATA names."""
    folder = os.environ.get("JCL_REALDATA")
    if not folder:
        pytest.skip("JCL_REALDATA names no folder of real volumes")
    return Path(folder)
