"""Whether tensors lie on huge pages, told by the page faults of a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from jcl.allocator import VARIABLE, keep_memory

FAULTS = """
import resource
import jcl.stages.finetune
import jcl.stages.pretrain
from jcl.allocator import keep_memory
keep_memory()
import torch
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(64 * 2**20)  # 256 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

PAGES = 256 * 2**20 // os.sysconf("SC_PAGE_SIZE")


def test_large_tensors_lie_on_huge_pages_where_the_system_gives_them_on_request():
    """After the stages have been imported. Half of the faults, so that a machine short of huge pages passes.

    A kernel without them gives the usual ones.
    """
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    command = [sys.executable, "-c", FAULTS]
    faults = int(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    given = setting.exists() and "[never]" not in setting.read_text()
    assert faults < (PAGES / 2 if given else PAGES * 1.1)


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv(VARIABLE, "0")
    keep_memory()
    assert os.environ[VARIABLE] == "0"
    monkeypatch.delenv(VARIABLE)
    keep_memory()
    assert os.environ[VARIABLE] == "1"
