"""PyTorch, the GPUs that it sees and those that it does not, and the kernels."""

import platform
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from jcl.distributed.device import resolve_device, resolve_precision
from jcl.doctor.findings import Finding, hint
from jcl.doctor.settings import check_cache
from jcl.kernels.library import KernelError, UnwantedError, cache_folder, has_fast_bfloat16, load_library
from jcl.parallel.machine import cores, size

__all__ = ["check_gpus", "check_kernels", "check_threads", "describe_pytorch"]

DRIVER = Path("/proc/driver/nvidia/version")
GET = "https://pytorch.org/get-started/locally"


def describe_pytorch() -> dict[str, str]:
    """Lines on PyTorch, its devices and the precision that `auto` begins with, by what they are of."""
    device = resolve_device("auto")
    precision = str(resolve_precision("auto", device)).removeprefix("torch.")
    return {
        "PyTorch": f"{torch.__version__}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
        "GPU": _gpus() or "none that PyTorch sees",
        "device": f"{device.type} where --devices is auto, in {precision}",
    }


def _gpus() -> str:
    if torch.cuda.is_available():
        found = (torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count()))
        return ", ".join(f"{each.name} ({size(each.total_memory)})" for each in found)
    return "of this Mac (mps)" if torch.backends.mps.is_available() else ""


def check_gpus() -> list[Finding]:
    """A GPU of this machine that PyTorch cannot use, and why."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available() or torch.backends.mps.is_available()
    if usable:
        return []
    if DRIVER.is_file() or shutil.which("nvidia-smi"):
        if torch.version.cuda is None and torch.version.hip is None:
            return [hint(f"this machine has an NVIDIA GPU, and PyTorch was installed without CUDA; get another: {GET}")]
        why = " ".join(str(said[0].message).split())[:200] if said else "the driver may be older than PyTorch's CUDA"
        return [hint(f"this machine has an NVIDIA GPU that PyTorch cannot use ({why}); renew the driver, or see {GET}")]
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return [hint(f"this Mac has a GPU, and this PyTorch cannot use it; get another: {GET}")]
    return []


def check_threads() -> list[Finding]:
    """More threads than there is processor time for."""
    threads, there = torch.get_num_threads(), cores()
    if threads <= there:
        return []
    return [hint(f"PyTorch takes {threads} threads where {there} cores may be used; set OMP_NUM_THREADS to {there}")]


def check_kernels() -> Iterator[tuple[dict[str, str], list[Finding]]]:
    """Whether the kernels are built, or why not; and where they are kept."""
    try:
        lanes = load_library().jcl_lanes()
    except UnwantedError as error:
        yield {"kernels": f"not used: {error}"}, []
        return
    except KernelError as error:
        yield (
            {"kernels": f"not built: {error}"},
            [hint(f"training on the processor takes three times as long: {error}")],
        )
        return
    tiles = " and tiles of bfloat16" if has_fast_bfloat16() else ""
    yield {"kernels": f"built, for vectors of {lanes} numbers{tiles}"}, []
    try:
        yield check_cache(cache_folder())
    except RuntimeError:  # there is no home
        yield (
            {},
            [hint("this user has no home, so the kernels are compiled at each start; set XDG_CACHE_HOME to a folder")],
        )
