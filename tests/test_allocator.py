"""Whether freed memory is kept, told by the page faults of a process of its own."""

import os
import platform
import subprocess
import sys

from jcl import allocator

FAULTS = """
import resource
import sys
import torch
from jcl.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def fill():
    torch.ones(16 * 2**20)  # 64 MiB
for _ in range(20):  # the allocator needs some calls until a freed piece of the right size is at hand
    fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Page faults of filling an array of 64 MiB five times."""
    # arrays on huge pages take few faults either way; glibc alone does not ask for them
    environment = {**os.environ, "THP_MEM_ALLOC_ENABLE": "0"}
    for name in allocator.CHOSEN:
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how], check=True, capture_output=True, text=True, env=environment
    )
    return int(done.stdout)


def test_the_pages_of_a_large_array_are_asked_for_once(monkeypatch):
    if platform.libc_ver()[0] == "glibc":
        assert faults("keep") < faults("leave") / 4
    else:
        for name in allocator.CHOSEN:
            monkeypatch.delenv(name, raising=False)
        assert not allocator.keep_freed_memory()


def test_the_users_own_settings_stay(monkeypatch):
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "1000")
    assert not allocator.keep_freed_memory()


def test_nothing_is_done_with_another_c_library(monkeypatch):
    for name in allocator.CHOSEN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert not allocator.keep_freed_memory()
