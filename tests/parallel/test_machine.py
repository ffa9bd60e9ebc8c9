"""What a process may use: of the machine, or of the control group of its container; on systems without either."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jcl.parallel import machine
from jcl.parallel.machine import core_quota, cores, duration, folder_size, free_disk, memory_limit, peak_memory, size


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `proc` and `groups` in place of the system's, both empty; 64 cores."""
    monkeypatch.setattr(machine, "PROC", tmp_path / "proc")
    monkeypatch.setattr(machine, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(os, "sched_getaffinity", lambda number: set(range(64)), raising=False)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_limits_of_a_container_of_version_2(system: Path) -> None:
    """`docker run --cpus 2.5 --memory 8g`, with a name space of its own."""
    write(system / "proc" / "self" / "cgroup", "0::/\n")
    write(system / "groups" / "cpu.max", "250000 100000\n")
    write(system / "groups" / "memory.max", f"{8 << 30}\n")
    assert core_quota() == 2.5
    assert cores() == 3
    assert memory_limit() == min(8 << 30, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def test_the_least_limit_of_all_groups_above_holds(system: Path) -> None:
    """A job of SLURM: a limit of the job, none of the step."""
    write(system / "proc" / "self" / "cgroup", "0::/slurm/job1/step0\n")
    write(system / "groups" / "slurm" / "job1" / "step0" / "memory.max", "max\n")
    write(system / "groups" / "slurm" / "job1" / "memory.max", "1000000\n")
    write(system / "groups" / "slurm" / "memory.max", "2000000\n")
    write(system / "groups" / "slurm" / "job1" / "cpu.max", "max 100000\n")
    assert memory_limit() == 1_000_000
    assert core_quota() is None
    assert cores() == 64


def test_limits_of_version_1(system: Path) -> None:
    """The path is the host's, and what the container sees of its group is the root."""
    write(system / "proc" / "self" / "cgroup", "4:memory:/docker/1\n3:cpu,cpuacct:/docker/1\n0::/\n")
    write(system / "groups" / "memory" / "memory.limit_in_bytes", "3000000\n")
    write(system / "groups" / "cpu" / "cpu.cfs_quota_us", "50000\n")
    write(system / "groups" / "cpu" / "cpu.cfs_period_us", "100000\n")
    assert memory_limit() == 3_000_000
    assert core_quota() == 0.5
    assert cores() == 1


def test_no_limits_in_version_1(system: Path) -> None:
    write(system / "proc" / "self" / "cgroup", "4:memory:/\n3:cpu:/\n")
    write(system / "groups" / "memory" / "memory.limit_in_bytes", "9223372036854771712\n")
    write(system / "groups" / "cpu" / "cpu.cfs_quota_us", "-1\n")
    write(system / "groups" / "cpu" / "cpu.cfs_period_us", "100000\n")
    assert memory_limit() == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert core_quota() is None


def test_a_system_that_says_nothing(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.setitem(sys.modules, "resource", None)
    assert cores() == os.cpu_count()
    assert memory_limit() is None
    assert peak_memory() is None


def test_peak_of_memory_is_that_of_an_array_and_stays() -> None:
    code = (
        "from jcl.parallel.machine import peak_memory; before = peak_memory(); bytearray(b'1') * (200 << 20);"
        "print(peak_memory() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 190 << 20 < int(done.stdout) < 220 << 20


def test_a_system_without_proc_is_asked_by_getrusage(system: Path) -> None:
    pytest.importorskip("resource")
    found = peak_memory()
    assert found is not None
    assert 10 << 20 < found < 1 << 40


def test_free_room_where_a_folder_will_be(tmp_path: Path) -> None:
    assert free_disk(tmp_path / "not" / "yet") == pytest.approx(free_disk(tmp_path), rel=0.1)


def test_size_of_a_folder_that_others_work_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case that gets its name while it is looked at is passed over."""
    write(tmp_path / "a" / "whole", "12345")
    write(tmp_path / "b" / "going", "678")
    stat = Path.stat

    def renamed(path: Path, **settings: bool) -> os.stat_result:
        if path.name == "going":
            raise FileNotFoundError(path)
        return stat(path, **settings)

    monkeypatch.setattr(Path, "stat", renamed)
    assert folder_size(tmp_path) == 5


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (89, "89 s"), (91, "2 min"), (5401, "1 h 30 min")])
def test_duration(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_size() -> None:
    assert [size(2_600_000), size(999e6), size(1.34e9)] == ["3 MB", "999 MB", "1.3 GB"]
