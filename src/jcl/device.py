"""Which device and which precision: what `auto` means, in one place."""

import os

import torch

from jcl.errors import UsageError


def count_devices(devices: str) -> int:
    """How many processes a training runs in: one a device.

    Args:
        devices: `auto` (one GPU if there is one, else the CPU), `cpu`, `cpu:2` (two processes on the CPU), or a number
            of GPUs.

    Raises:
        UsageError: none of these.
    """
    kind, _, number = devices.partition(":")
    if devices in ("auto", "cpu"):
        return 1
    count = number if kind == "cpu" else devices
    if not count.isdecimal() or int(count) < 1:
        raise UsageError(f"devices is {devices!r}; it can be auto, cpu, cpu:2 (processes) or a number of GPUs")
    return int(count)


def resolve_device(devices: str) -> torch.device:
    """The device of this process: one of the GPUs, or the CPU (`devices` as in `count_devices`).

    Raises:
        UsageError: no such device here.
    """
    count = count_devices(devices)
    if devices.startswith("cpu") or (devices == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UsageError(f"devices is {devices}, but PyTorch sees no GPU here; give --devices cpu")
    own = int(os.environ.get("LOCAL_RANK", 0))
    if max(count, own + 1) > torch.cuda.device_count():
        raise UsageError(f"{max(count, own + 1)} GPUs are asked for; PyTorch sees {torch.cuda.device_count()} here")
    return torch.device("cuda", own)


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """The type that convolutions run in; `auto` is bfloat16 where the hardware multiplies it.

    On a CPU that is AVX512-BF16 or AMX; emulated bfloat16 is slower than float32.

    Raises:
        UsageError: an unknown name.
    """
    if precision == "float32":
        return torch.float32
    if precision == "bfloat16":
        return torch.bfloat16
    if precision != "auto":
        raise UsageError(f"precision is {precision!r}; it can be auto, float32 or bfloat16")
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        fast = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
    return torch.bfloat16 if fast else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Context in which convolutions and products run in `dtype`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)
