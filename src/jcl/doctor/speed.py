"""How fast this machine trains, by a few steps of a small batch in each way that it can compute."""

import contextlib
import time

import torch
from torch import nn

from jcl import backbones
from jcl.distributed.device import autocast, may_gain_from_bfloat16, resolve_device, synchronize
from jcl.kernels.exchange import use_kernels
from jcl.kernels.library import KernelError, has_fast_bfloat16

__all__ = ["measure_speed"]

SLICES, SIDE, WIDTH, ROUNDS = 2, 128, 32, 2


def measure_speed() -> dict[str, float]:
    """Slices of 128 x 128 a second that a U-Net of width 32 is trained on, by the way to compute; some seconds.

    Raises:
        RuntimeError: the device that `auto` takes cannot compute.
    """
    device = resolve_device("auto")
    speeds = {f"{device.type}, float32": _slices_a_second(device, torch.float32, kernels=False)}
    if may_gain_from_bfloat16(device):
        speeds[f"{device.type}, bfloat16"] = _slices_a_second(device, torch.bfloat16, kernels=False)
    if device.type == "cpu":
        with contextlib.suppress(KernelError):  # `check_kernels` says why
            speeds["cpu, float32 with kernels"] = _slices_a_second(device, torch.float32, kernels=True)
            if has_fast_bfloat16():
                speeds["cpu, bfloat16 with kernels"] = _slices_a_second(device, torch.bfloat16, kernels=True)
    return speeds


def _slices_a_second(device: torch.device, precision: torch.dtype, *, kernels: bool) -> float:
    network = backbones.load("unet")(in_channels=1, classes=2, width=WIDTH)
    network.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if kernels:
        use_kernels(network)
    images = torch.rand(SLICES, 1, SIDE, SIDE, device=device)
    best = min(_seconds(network, images, precision) for _ in range(ROUNDS + 1))
    return SLICES / best


def _seconds(network: nn.Module, images: torch.Tensor, precision: torch.dtype) -> float:
    synchronize(images.device)
    begun = time.perf_counter()
    network.zero_grad()
    with autocast(images.device, precision):
        loss = network(images).float().square().mean()
    loss.backward()
    synchronize(images.device)
    return time.perf_counter() - begun
