"""What jcl does on a GPU, as a report to send: is it right, does anything wait, how fast is it, what memory it takes.

    python benchmarks/gpu_report.py [--out gpu-report.md] [--device cuda] [--smoke]

Nobody has run it on a GPU yet: the tables of docs/performance.md are of processors. It takes some minutes, needs no
data, and writes nothing but its report: PyTorch, driver and GPU; for each method how far the losses of three steps on
the GPU are from those on the CPU, with the same weights and draws, in float32; whether a step waits for the GPU
(`torch.cuda.set_sync_debug_mode`); slices a second and peak memory of JCL's step and of a fine-tuning's in float32,
bfloat16 and compiled. What fails is written down as well, and the script ends with 1 if anything did. `--device cpu`
runs all but what is a GPU's.
"""

import argparse
import copy
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Generator, nn

import jcl
from jcl import backbones, methods
from jcl.augment.batches import augment_batch
from jcl.augment.labelled import LabelledRanges
from jcl.augment.spatial import AffineRanges
from jcl.data.batches import SliceBatch
from jcl.distributed.device import autocast, peak_memory, synchronize
from jcl.losses.segmentation import LOSSES
from jcl.training.autotune import Execution, apply_execution
from jcl.training.optim import adam, set_learning_rate, sgd

CLASSES, RATE = 4, 1e-3
WARM, TIMED = 5, 20
STEPS = 3
"""That the losses of two devices are compared over; later they drift apart, as float32 does from float64."""

WAYS = (
    Execution(torch.float32),
    Execution(torch.bfloat16),
    Execution(torch.bfloat16, compiled=True),
)


def batch_of(size: int, count: int, *, labels: bool = False) -> SliceBatch:
    """Smooth random slices of two volumes."""
    generator = Generator().manual_seed(0)
    coarse = torch.rand(count, 1, size // 8, size // 8, generator=generator)
    images = nn.functional.interpolate(coarse, size=size, mode="bilinear")
    positions, volumes = (torch.arange(count) // 2 + 1) / (count / 2), torch.arange(count) % 2
    given = {"images": images, "positions": positions.float(), "volumes": volumes}
    given["depths"] = torch.full((count,), count // 2)
    if labels:
        given["labels"] = (images[:, 0] * CLASSES).long().clamp(0, CLASSES - 1)
    return SliceBatch(**given)


def pretraining(method: Any, batch: SliceBatch, way: Execution) -> Callable[[], torch.Tensor]:
    """A step as `jcl pretrain` does it, with the batch still on the CPU; returns the loss."""
    device = next(method.parameters()).device
    optimizer = sgd(method.parameters(), weight_decay=1e-5, decays_all=method.decays_all)
    set_learning_rate(optimizer, RATE)
    generator = Generator().manual_seed(0)
    kept = batch.images.pin_memory() if device.type == "cuda" else batch.images

    def step() -> torch.Tensor:
        here = SliceBatch(**{**vars(batch), "images": kept}).to(device)
        views = method.views(here, generator)
        with autocast(device, way.precision):
            loss = method(views, here)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(0.0)
        return loss.detach()

    return step


def finetuning(network: nn.Module, batch: SliceBatch, way: Execution) -> Callable[[], torch.Tensor]:
    """A step of the strong recipe on labelled slices."""
    device = next(network.parameters()).device
    optimizer, generator = adam(network.parameters(), weight_decay=0.0), Generator().manual_seed(0)
    set_learning_rate(optimizer, RATE)
    ranges = LabelledRanges(affine=AffineRanges(), intensity=1.0)

    def step() -> torch.Tensor:
        images, labels = augment_batch(batch.to(device), ranges, generator=generator)
        with autocast(device, way.precision):
            logits = network(images.contiguous(memory_format=torch.channels_last))
        loss = LOSSES["dice_cross_entropy"](logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def build(name: str, width: int) -> Any:
    torch.manual_seed(0)
    return methods.load(name)(backbones.load("unet")(in_channels=1, classes=CLASSES, width=width))


def losses_agree(device: torch.device, width: int, size: int) -> Iterator[str]:
    """Of each method, the largest difference of a loss, as a share of the loss on the CPU."""
    for name in methods.available():
        first, second = build(name, width), build(name, width).to(device)
        batch, way = batch_of(size, 8), Execution(torch.float32)
        there, here = pretraining(second, batch, way), pretraining(first, batch, way)
        pairs = [(here().item(), there().item()) for _ in range(STEPS)]
        worst = max(abs(one - other) / max(1e-6, abs(one)) for one, other in pairs)
        yield f"| {name} | {pairs[0][0]:.4f} | {worst:.1e} |"


def waits(device: torch.device, width: int, size: int) -> Iterator[str]:
    """Of each method, whether a step asks the GPU for anything; a warning of PyTorch's says where."""
    for name in methods.available():
        step = pretraining(build(name, width).to(device), batch_of(size, 8), Execution(torch.float32))
        step()
        synchronize(device)
        if device.type != "cuda":
            yield f"| {name} | not asked: no GPU |"
            continue
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
            said = "no"
        except RuntimeError as error:
            said = str(error).splitlines()[0]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        yield f"| {name} | {said} |"


def timed(step: Callable[[], object], device: torch.device, count: int, *, warm: int, steps: int) -> str:
    """Milliseconds a step, slices a second and peak memory."""
    for _ in range(warm):
        step()
    synchronize(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times: list[float] = []
    for _ in range(steps):
        began = time.perf_counter()
        step()
        synchronize(device)
        times.append(time.perf_counter() - began)
    middle, peak = statistics.median(times), peak_memory(device)
    memory = "–" if peak is None else f"{peak / 2**20:,.0f}"
    return f"{1000 * middle:,.1f} | {count / middle:,.1f} | {memory}"


def speeds(device: torch.device, sizes: list[int], width: int, *, warm: int, steps: int) -> Iterator[str]:
    """Steps of JCL (16 slices) and of a fine-tuning (5 slices), each way."""
    for size in sizes:
        for way in WAYS if device.type == "cuda" else WAYS[:1]:
            for what, count in (("pre-training, jcl", 16), ("fine-tuning, strong", 5)):
                place = f"| {what} | {size} x {size} | {way} | "
                try:
                    step = _step(what, count, size, width, way, device)
                    yield place + timed(step, device, count, warm=warm, steps=steps) + " |"
                except RuntimeError as error:  # out of memory, or not compiled: the next may do
                    yield place + f"failed: {str(error).splitlines()[0][:100]} | | |"


def _step(
    what: str, count: int, size: int, width: int, way: Execution, device: torch.device
) -> Callable[[], torch.Tensor]:
    method = build("jcl", width).to(device, memory_format=torch.channels_last)
    if what.startswith("pre"):
        apply_execution(method.backbone, way, method=method)
        return pretraining(method, batch_of(size, count), way)
    network = copy.deepcopy(method.backbone)
    apply_execution(network, way)
    return finetuning(network, batch_of(size, count, labels=True), way)


def machine(device: torch.device) -> Iterator[str]:
    python, system = platform.python_version(), platform.platform()
    yield f"- jcl {jcl.__version__}, PyTorch {torch.__version__}, Python {python}, {system}"
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        yield f"- {about.name}, {about.total_memory / 2**30:.0f} GiB, capability {about.major}.{about.minor}"
        yield f"- CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"


def main() -> None:
    """Write the report part by part, so that what there is stays when a part fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu-report.md"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 256, 512])
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--smoke", action="store_true", help="small, on the CPU: only whether it runs")
    given = parser.parse_args()
    small, warm, steps = 64, WARM, TIMED
    if given.smoke:
        given.device, given.sizes, given.width, warm, steps = "cpu", [32], 2, 0, 1
        given.out = Path("/dev/stdout")
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch sees no GPU of CUDA's here (`jcl doctor` says why); --device cpu tries the script itself")
    parts: list[tuple[str, str, Callable[[], Iterator[str]]]] = [
        ("Machine", "", lambda: machine(device)),
        (
            "Losses against the CPU",
            "| method | first loss | largest difference of three, relative |\n|---|---|---|",
            lambda: losses_agree(device, min(8, given.width), small),
        ),
        ("Does a step wait?", "| method | waits |\n|---|---|", lambda: waits(device, min(8, given.width), small)),
        (
            "Speed",
            f"Width {given.width}.\n\n| step | slices | way | ms | slices/s | peak MiB |\n|---|---|---|---|---|---|",
            lambda: speeds(device, given.sizes, given.width, warm=warm, steps=steps),
        ),
    ]
    failed = False
    with given.out.open("w") as file:
        for title, head, lines in parts:
            print(f"\n## {title}\n\n{head}", file=file, flush=True)
            try:
                for line in lines():
                    print(line, file=file, flush=True)
                    failed |= "failed" in line
            except Exception as error:  # the report is of what works and what does not
                failed = True
                print(f"\nfailed: {type(error).__name__}: {error}", file=file, flush=True)
    if not given.smoke:
        print(f"{given.out} is written; please send it with an issue", file=sys.stderr)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
