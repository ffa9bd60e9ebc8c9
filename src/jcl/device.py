"""Which device and which precision: what `auto` means, in one place."""

import torch

from jcl.errors import UsageError


def resolve_device(devices: str) -> torch.device:
    """`auto` is the first GPU if there is one, else the CPU; `1` asks for a GPU.

    Raises:
        UsageError: no such device here.
    """
    if devices == "cpu" or (devices == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if devices != "auto" and not devices.isdigit():
        raise UsageError(f"devices is {devices!r}; it can be auto, cpu or 1 (one GPU)")
    if devices not in ("auto", "1"):
        raise UsageError(f"devices is {devices}; training runs on one device so far: give --devices 1 or cpu")
    if not torch.cuda.is_available():
        raise UsageError(f"devices is {devices}, but PyTorch sees no GPU here; give --devices cpu")
    return torch.device("cuda", 0)


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
