"""GPUs that PyTorch cannot use, too many threads, and kernels that cannot be had, each with what to do."""

import platform
import warnings
from pathlib import Path

import pytest
import torch

from jcl.doctor import pytorch
from jcl.doctor.pytorch import check_gpus, check_kernels, check_threads, describe_pytorch
from jcl.kernels.library import KernelError, UnwantedError


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(pytorch, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(pytorch.shutil, "which", lambda name: None)


def test_a_machine_without_a_gpu_is_fine() -> None:
    assert check_gpus() == []
    assert describe_pytorch()["GPU"] == "none that PyTorch sees"


def test_a_gpu_and_a_pytorch_without_cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54")
    monkeypatch.setattr(torch.version, "cuda", None)
    (finding,) = check_gpus()
    assert "PyTorch was installed without CUDA" in finding.text
    assert "https://pytorch.org/get-started" in finding.text


def test_a_driver_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """What PyTorch says itself is passed on."""

    def too_old() -> bool:
        warnings.warn("The NVIDIA driver on your system is too old (found version 11040).", stacklevel=1)
        return False

    monkeypatch.setattr(pytorch.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", too_old)
    (finding,) = check_gpus()
    assert "too old (found version 11040)" in finding.text
    assert "renew the driver" in finding.text


def test_a_mac_whose_pytorch_has_no_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert ["this Mac has a GPU" in finding.text for finding in check_gpus()] == [True]
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert check_gpus() == []
    assert describe_pytorch()["device"] == "mps where --devices is auto, in float32"


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that has the time of 2 cores on a machine of 64."""
    monkeypatch.setattr(pytorch, "cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    (finding,) = check_threads()
    assert "set OMP_NUM_THREADS to 2" in finding.text
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert check_threads() == []


def test_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: KernelError) -> list:
        def load() -> None:
            raise error

        monkeypatch.setattr(pytorch, "load_library", load)
        return list(check_kernels())

    ((fact, findings),) = fail(KernelError("no C compiler here (cc); on Debian: apt install gcc"))
    assert fact["kernels"].startswith("not built: no C compiler here")
    assert "apt install gcc" in findings[0].text
    ((fact, findings),) = fail(UnwantedError("the kernels are off ($JCL_KERNELS)"))
    assert fact["kernels"].startswith("not used")
    assert findings == []
