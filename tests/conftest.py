"""What all tests share: checked types, one thread, and the folder of real volumes."""

import os
import signal
from collections import Counter
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "src"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side; before PyTorch is imported
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SOURCES), os.environ.get("PYTHONPATH")]))  # of children
os.environ.setdefault("MPLBACKEND", "Agg")
# `nohup make test &` is no other test: programs are begun as at a terminal, with signals that are not ignored
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from jaxtyping import install_import_hook

install_import_hook("jcl", "support.typecheck.check")  # shapes and types of every call are checked

import hypothesis
import pytest
import torch

from support.order import slow_first

torch.set_num_threads(1)
hypothesis.settings.register_profile("any machine", deadline=None)  # how fast it is must not matter
hypothesis.settings.load_profile("any machine")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of each worker's tests the slow ones come first."""
    worker = getattr(config, "workerinput", None)
    if worker:
        items[:] = slow_first(items, worker["workercount"])


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, for `-n auto`
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores: many tests wait for processes that they have started."""
    return len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)) + 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reason why tests, or modules of them, were skipped; it says what would let them run."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
    for reason, count in reasons.items():
        terminalreporter.write_line(f"skipped {count}: {reason}", yellow=True)


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real volumes that $JCL_REALDATA names."""
    folder = os.environ.get("JCL_REALDATA")
    if not folder:
        pytest.skip("JCL_REALDATA names no folder of real volumes")
    return Path(folder)
