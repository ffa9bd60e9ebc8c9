"""Whether memory is kept, told by the page faults of a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jcl.parallel.allocator import HUGE_PAGES, THEIR_OWN, keep_memory

FAULTS = """
import resource
import jcl.stages.finetune
import jcl.stages.pretrain
from jcl.parallel.allocator import keep_memory
keep_memory()
import torch
def faults(mebibytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(mebibytes * 2**18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(257), faults(256))
"""

PAGES = 256 * 2**20 // os.sysconf("SC_PAGE_SIZE")


def faults_of_two_tensors(**settings: str) -> list[int]:
    """Page faults of a large tensor, and of a smaller one after it was freed; after the stages have been imported."""
    ours = (HUGE_PAGES, *THEIR_OWN)
    environment = {name: value for name, value in os.environ.items() if name not in ours} | settings
    command = [sys.executable, "-c", FAULTS]
    return [int(word) for word in subprocess.check_output(command, env=environment, text=True).split()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_a_freed_tensor_is_kept_for_the_next():
    first, second = faults_of_two_tensors()
    assert first > PAGES / 1000
    assert second < PAGES / 1000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pages of Linux")
def test_where_the_user_has_settings_large_tensors_lie_on_huge_pages_if_the_system_gives_them():
    """Half of the faults, so that a machine short of huge pages passes. A kernel without them gives the usual ones."""
    _, second = faults_of_two_tensors(MALLOC_TRIM_THRESHOLD_="131072")
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    given = setting.exists() and "[never]" not in setting.read_text()
    assert PAGES / 1000 < second < (PAGES / 2 if given else PAGES * 1.1)


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv(THEIR_OWN[0], "1000")
    monkeypatch.setenv(HUGE_PAGES, "0")
    keep_memory()
    assert os.environ[HUGE_PAGES] == "0"
    monkeypatch.delenv(HUGE_PAGES)
    keep_memory()
    assert os.environ[HUGE_PAGES] == "1"
