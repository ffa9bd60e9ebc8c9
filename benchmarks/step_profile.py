"""Where the time of a pre-training step of ours goes: by part of the step, and by kind of operator."""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from jcl.data.batches import SliceBatch
from jcl.distributed.device import autocast
from jcl.training.autotune import Execution, apply_execution
from jcl.training.optim import set_learning_rate, sgd

KINDS = {
    "convolution, backward": ("convolution_backward", "conv2d_backward", "ConvolutionBackward", "_ColumnsBackward"),
    "convolution, forward": ("convolution", "_Columns", "conv2d", "conv_transpose2d"),
    "batch normalisation": ("batch_norm", "normalisation", "moments"),
    "leaky ReLU": ("leaky_relu",),
    "pooling": ("max_pool2d", "pooling"),
    "copies, concatenation, filling": ("copy_", "cat", "fill_", "clone", "contiguous", "_to_copy"),
    "products of matrices": ("mm", "bmm", "addmm"),
    "views": ("grid_sampler_2d", "avg_pool2d"),
    "optimiser": ("Optimizer",),
}
"""Operators by a part of their name; the first that fits counts."""


def print_profile(method: Any, batch: SliceBatch, way: Execution) -> None:
    """Two tables of shares, from one step after another that warms up."""
    method.to(memory_format=torch.channels_last)
    parts: dict[str, float] = defaultdict(float)
    apply_execution(method.backbone, way, method=method)
    step = _timed_step(method, batch, way, parts)
    step()
    parts.clear()
    step()
    _print_shares("part of the step", parts)
    with profile(activities=[ProfilerActivity.CPU]) as record:
        step()
    kinds: dict[str, float] = defaultdict(float)
    for event in record.key_averages():
        kinds[_kind(event.key)] += event.self_cpu_time_total
    _print_shares("kind of operator", kinds)
    print(f"\n{sum(e.count for e in record.key_averages() if e.key.startswith('aten::'))} operators")


def _kind(name: str) -> str:
    for kind, words in KINDS.items():
        if any(word in name for word in words):
            return kind
    return "other"


def _print_shares(title: str, times: dict[str, float]) -> None:
    whole = sum(times.values())
    print(f"\n| {title} | share |\n|---|---|")
    for name, took in sorted(times.items(), key=lambda item: -item[1]):
        print(f"| {name} | {100 * took / whole:.1f} % |")


def _timed_step(method: Any, batch: SliceBatch, way: Execution, parts: dict[str, float]) -> Callable[[], object]:
    """A step that adds the time of its parts to `parts`; the losses are what is left of the forward pass."""
    optimizer, generator = sgd(method.parameters(), weight_decay=1e-5), torch.Generator().manual_seed(0)
    set_learning_rate(optimizer, 0.001)

    def timed(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            result = run(*args, **kwargs)
            parts[name] += time.perf_counter() - begun
            return result

        return wrapped

    method.backbone.encode = timed("encoder, forward", method.backbone.encode)
    method.backbone.decode = timed("decoder, forward", method.backbone.decode)
    for projector in ("auxiliary_instance", "auxiliary_pixel", "dominant_instance", "dominant_pixel"):
        module: nn.Module = getattr(method, projector)
        module.forward = timed("projectors, forward", module.forward)
    inner = ("encoder, forward", "decoder, forward", "projectors, forward")

    def step() -> None:
        views = timed("views", method.views)(batch, generator)
        with autocast(torch.device("cpu"), way.precision):
            losses = timed("losses, forward", method)(views, batch)
        parts["losses, forward"] -= sum(parts[name] for name in inner) - parts["counted"]
        parts["counted"] = sum(parts[name] for name in inner)
        optimizer.zero_grad()
        timed("backward", losses["loss"].backward)()
        timed("optimiser", optimizer.step)()

    def whole() -> None:
        step()
        del parts["counted"]

    return whole
