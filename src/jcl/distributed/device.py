"""Which device and which precision: what `auto` means, in one place; and what devices do each in their own way."""

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from jcl.errors import UsageError

__all__ = [
    "autocast",
    "channels_last",
    "count_devices",
    "generator_state",
    "has_mps",
    "kept_generators",
    "may_gain_from_bfloat16",
    "peak_memory",
    "resolve_device",
    "resolve_precision",
    "restore_generator",
    "synchronize",
]


def has_mps() -> bool:
    """Whether PyTorch can compute on the GPU of this Mac."""
    return torch.backends.mps.is_available()


def count_devices(devices: str) -> int:
    """How many processes a training runs in: one a device.

    Args:
        devices: `auto` (one GPU if there is one, else the CPU), `cpu`, `cpu:2` (two processes on the CPU), `mps` (the
            GPU of a Mac), or a number of GPUs.

    Raises:
        UsageError: none of these.
    """
    kind, _, number = devices.partition(":")
    if devices in ("auto", "cpu", "mps"):
        return 1
    count = number if kind == "cpu" else devices
    if not count.isdecimal() or int(count) < 1:
        raise UsageError(f"devices is {devices!r}; it can be auto, cpu, cpu:2 (processes), mps or a number of GPUs")
    return int(count)


def resolve_device(devices: str) -> torch.device:
    """The device of this process: one of the GPUs, or the CPU (`devices` as in `count_devices`).

    `auto` is the first of CUDA, MPS and the CPU that is there.

    Raises:
        UsageError: no such device here.
    """
    count = count_devices(devices)
    if devices.startswith("cpu"):
        return torch.device("cpu")
    if devices == "mps" or not torch.cuda.is_available():
        if has_mps() and count == 1:
            return torch.device("mps")
        if devices == "auto":
            return torch.device("cpu")
        if has_mps():
            raise UsageError(f"{count} GPUs are asked for; PyTorch sees 1 (mps) here")
        raise UsageError(f"devices is {devices}, but PyTorch sees no GPU here; give --devices cpu")
    own = int(os.environ.get("LOCAL_RANK", 0))
    if max(count, own + 1) > torch.cuda.device_count():
        raise UsageError(f"{max(count, own + 1)} GPUs are asked for; PyTorch sees {torch.cuda.device_count()} here")
    return torch.device("cuda", own)


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """The type that convolutions run in; `auto` is bfloat16 where it is faster for certain.

    On a CPU that is AMX, or what Arm has. With AVX512-BF16 alone a step takes 1.4 times as long in bfloat16 as in
    float32 (Intel); emulated bfloat16 is slower still, and so it is on most Macs.

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
    elif device.type == "mps":
        fast = False
    else:
        fast = _cpu_has("amx_bf16", "bf16")
    return torch.bfloat16 if fast else torch.float32


def may_gain_from_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is worth a measurement: with AVX512-BF16 alone too, which some processors have at full width."""
    fast = resolve_precision("auto", device) == torch.bfloat16
    return fast or (device.type == "cpu" and _cpu_has("avx512_bf16"))


def _cpu_has(*names: str) -> bool:
    """Whether it has one of these capabilities, as PyTorch says it: in one answer, and each by itself before (2.6)."""
    told: Callable[[], Mapping[str, object]] | None = getattr(torch.cpu, "get_capabilities", None)
    if told is not None:
        capabilities = told()
        return any(capabilities.get(name) for name in names)
    probes = [_PROBES[name] for name in names if name in _PROBES]
    return any(getattr(torch.cpu, probe)() for probe in probes if hasattr(torch.cpu, probe))


_PROBES = {"avx512_bf16": "_is_avx512_bf16_supported", "amx_bf16": "_is_amx_tile_supported"}


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Context in which convolutions and products run in `dtype`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def channels_last(dimensions: int) -> torch.memory_format:
    """The layout that convolutions of so many dimensions are fastest in: all channels of a pixel or voxel together."""
    return torch.channels_last_3d if dimensions == 3 else torch.channels_last


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what it was given; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_memory(device: torch.device) -> int | None:
    """Bytes of a GPU's own memory that this process has taken at most; None of a CPU, whose memory is the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return torch.mps.driver_allocated_memory() if device.type == "mps" else None


def generator_state(device: torch.device) -> Tensor | None:
    """State of a GPU's own generator, of which dropout draws; None of a CPU, which has PyTorch's."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else None


def restore_generator(device: torch.device, state: Tensor) -> None:
    """Undo what was drawn since `generator_state`."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state)


@contextmanager
def kept_generators(device: torch.device) -> Generator[None]:
    """Context behind which PyTorch's generator and the device's draw as if nothing had been drawn in it."""
    own = generator_state(device)
    with torch.random.fork_rng([]):
        yield
    if own is not None:
        restore_generator(device, own)
