"""What is set wrongly is named, with what to set instead; what is right is not mentioned."""

import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from jcl.doctor import settings
from jcl.doctor.settings import check_cache, check_memory, check_temporary, check_variables


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "cores", lambda: 8)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("JCL_KERNEL", "off", "JCL_KERNEL is not a variable of jcl's; did you mean JCL_KERNELS?"),
        ("JCL_DATA_ROOT", "/x", "JCL_DATA_ROOT is not a variable of jcl's"),
        ("JCL_KERNELS", "0", "JCL_KERNELS is '0', which does nothing; `off` turns the kernels off"),
        ("OMP_NUM_THREADS", "64", "may use 8 cores, and slows down; set it to 8"),
        ("OMP_NUM_THREADS", "1", "7 of 8 cores stay idle; unset it"),
        ("OMP_NUM_THREADS", "four", "'four', which is not a number of threads; unset it, or set it to 8"),
        ("MKL_NUM_THREADS", "0", "not a number of threads"),
        ("CUDA_VISIBLE_DEVICES", "", "hides all GPUs; unset it"),
        ("CUDA_VISIBLE_DEVICES", "-1", "hides all GPUs; unset it"),
    ],
)
def test_a_variable_that_is_wrong(name: str, value: str, said: str) -> None:
    (finding,) = check_variables({name: value, "PATH": "/bin"})
    assert finding.level == "warning"
    assert said in finding.text
    assert name in finding.text


def test_variables_that_are_right() -> None:
    right = {"JCL_KERNELS": "off", "OMP_NUM_THREADS": "8,1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert check_variables(right) == []


def test_little_memory_of_its_own_and_little_that_is_shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings, "SHARED", tmp_path)
    for limit, shared, wanted in ((16 << 30, 1 << 30, []), (1 << 30, 64 << 20, ["--batch-size", "--shm-size"])):
        monkeypatch.setattr(settings, "memory_limit", lambda limit=limit: limit)
        monkeypatch.setattr(shutil, "disk_usage", lambda path, shared=shared: SimpleNamespace(total=shared))
        findings = check_memory()
        assert len(findings) == len(wanted)
        assert all(word in finding.text for word, finding in zip(wanted, findings, strict=True))


def test_temporary_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(settings, "free_disk", lambda folder: 10 << 30)
    facts, findings = check_temporary()
    assert facts == {"temporary files": f"{tmp_path}, 10.7 GB free"}
    assert findings == []
    monkeypatch.setattr(settings, "free_disk", lambda folder: 1 << 20)
    assert ["TMPDIR" in finding.text for finding in check_temporary()[1]] == [True]
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "gone"))
    (finding,) = check_temporary()[1]
    assert finding.level == "error"
    assert "TMPDIR" in finding.text


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    assert check_cache(tmp_path / "jcl" / "kernels")[1] == []
    (tmp_path / "file").write_text("no folder")
    (finding,) = check_cache(tmp_path / "file" / "kernels")[1]
    assert "XDG_CACHE_HOME" in finding.text
