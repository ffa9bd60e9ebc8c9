"""What `auto` means, on machines with and without the hardware."""

import pytest
import torch

from jcl.distributed.device import (
    autocast,
    count_devices,
    kept_generators,
    may_gain_from_bfloat16,
    resolve_device,
    resolve_precision,
)
from jcl.errors import UsageError

CPU = torch.device("cpu")


def test_devices_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == CPU
    with pytest.raises(UsageError, match="no GPU"):
        resolve_device("1")


def test_devices_with_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda", 0)
    assert resolve_device("cpu") == resolve_device("cpu:2") == CPU
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert resolve_device("2") == torch.device("cuda", 1)
    with pytest.raises(UsageError, match="3 GPUs are asked for; PyTorch sees 2"):
        resolve_device("3")


@pytest.mark.parametrize(("devices", "count"), [("auto", 1), ("cpu", 1), ("cpu:2", 2), ("4", 4)])
def test_a_process_a_device(devices, count):
    assert count_devices(devices) == count


def test_unknown_names():
    for wrong in ("tpu", "0", "cpu:", "cpu:two", "-1"):
        with pytest.raises(UsageError, match="auto, cpu"):
            resolve_device(wrong)
    with pytest.raises(UsageError, match="bfloat16"):
        resolve_precision("float16", CPU)


@pytest.mark.parametrize(
    ("capabilities", "wanted", "tried"),
    [
        ({"avx512_bf16": True, "amx_bf16": True}, torch.bfloat16, True),  # Intel since 2023
        ({"avx512_bf16": True, "amx_bf16": False}, torch.float32, True),  # AMD since 2022, a few of Intel's
        ({"bf16": True}, torch.bfloat16, True),  # Arm
        ({}, torch.float32, False),
    ],
)
def test_precision_follows_the_hardware(monkeypatch, capabilities, wanted, tried):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert resolve_precision("auto", CPU) == wanted
    assert may_gain_from_bfloat16(CPU) == tried
    assert resolve_precision("float32", CPU) == torch.float32
    assert resolve_precision("bfloat16", CPU) == torch.bfloat16


@pytest.mark.parametrize(("avx512", "amx", "wanted"), [(False, False, 0), (True, False, 0), (True, True, 1)])
def test_older_versions_of_pytorch_are_asked_one_capability_at_a_time(monkeypatch, avx512, amx, wanted):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert resolve_precision("auto", CPU) == (torch.float32, torch.bfloat16)[wanted]
    assert may_gain_from_bfloat16(CPU) == avx512
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert resolve_precision("auto", CPU) == torch.float32


def test_autocast_is_off_in_float32():
    layer = torch.nn.Linear(2, 2)
    for dtype in (torch.float32, torch.bfloat16):
        with autocast(CPU, dtype):
            assert layer(torch.zeros(1, 2)).dtype == dtype


@pytest.fixture
def mac(monkeypatch):
    """PyTorch as it is on a Mac: MPS, and no CUDA."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


def test_the_gpu_of_a_mac_is_taken_where_there_is_no_other(mac, monkeypatch):
    assert [resolve_device(word).type for word in ("auto", "mps", "1", "cpu")] == ["mps", "mps", "mps", "cpu"]
    assert count_devices("mps") == 1
    with pytest.raises(UsageError, match=r"2 GPUs are asked for; PyTorch sees 1 \(mps\)"):
        resolve_device("2")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto") == CPU
    with pytest.raises(UsageError, match="devices is mps, but PyTorch sees no GPU here"):
        resolve_device("mps")


def test_cuda_comes_before_mps(mac, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device("auto").type == "cuda"
    assert resolve_device("mps").type == "mps"


def test_precision_on_a_mac_is_float32():
    assert resolve_precision("auto", torch.device("mps")) == torch.float32
    assert resolve_precision("bfloat16", torch.device("mps")) == torch.bfloat16


def test_what_is_drawn_inside_changes_nothing_outside(mac, monkeypatch):
    """Of the generator of a Mac's GPU, too, for which `torch.random.fork_rng` has no form."""
    own = [torch.tensor(7)]
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: own[-1].clone())
    monkeypatch.setattr(torch.mps, "set_rng_state", own.append)
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    with kept_generators(torch.device("mps")):
        torch.rand(2)
        own.append(torch.tensor(8))
    assert int(own[-1]) == 7
    assert torch.equal(torch.rand(3), wanted)
