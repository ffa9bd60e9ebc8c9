"""Pre-training: a method, its optimiser, and one visible loop over batches of unlabelled slices."""

import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from jcl import backbones, methods
from jcl.config import PretrainConfig
from jcl.data.batches import SliceBatch
from jcl.data.context import span_of
from jcl.data.population import LEAST_SLICES
from jcl.data.store import Store
from jcl.distributed.comm import average_gradients, world_size
from jcl.distributed.device import autocast
from jcl.distributed.launch import launch
from jcl.errors import DataError, UsageError
from jcl.limits import check_numbers
from jcl.methods._earlier import earlier
from jcl.training.blocks import block_taken, check_offered, strides_for
from jcl.training.feed import unlabelled_feed
from jcl.training.optim import clip_each, cosine, set_learning_rate, sgd
from jcl.training.run_folder import only_writer
from jcl.training.run_record import recorded
from jcl.training.run_split import pretraining_split
from jcl.training.session import Session, seeded
from jcl.training.trackers.chosen import check_trackers
from jcl.training.watching import check_watch, watched_volumes

LEAST_STEPS = 6000
"""Default floor of the number of steps; docs/results.md shows what shorter runs give."""

PLAIN = (bool, int, float, str)
"""What a setting of a method is; one of a user's own may have others, which are not recorded."""

COLLAPSED = 0.05
"""Feature spread below which all slices have nearly the same projection (see docs/results.md for healthy runs)."""

WATCHED_FROM = 200
"""Steps before which the spread says nothing: fresh projections are still close to each other."""


def pretrain(config: PretrainConfig) -> Path:
    """Pre-train `config.method` on the slices of the stores; returns the run folder.

    Raises:
        UsageError: settings that cannot be used, or that are not those of the run to resume.
        DataError: stores that cannot be used, or not together.
        Interrupted: a signal asked to stop; the run is saved.
        JclError: the loss became no number, or one of several processes died.
    """
    check_numbers(config)
    check_watch(config, blocks=config.block is not None)
    check_trackers(config.tracker)
    with only_writer(config.out), recorded(config):
        return launch(_pretrain_here, config, devices=config.devices, timeout_minutes=config.timeout_minutes)


def _pretrain_here(config: PretrainConfig) -> Path:
    """What each process does."""
    if (given := config.batch_size) < LEAST_SLICES:
        raise UsageError(f"batch_size is {given}; pre-training compares slices, so {LEAST_SLICES} are needed")
    with ExitStack() as opened:
        device = opened.enter_context(seeded(config))
        stores = [opened.enter_context(closing(Store.open(path))) for path in config.stores]
        return _pretrain(config, stores, device)


def _pretrain(config: PretrainConfig, stores: Sequence[Store], device: torch.device) -> Path:
    if config.width is None:
        config = replace(config, width=backbones.default_width(config.backbone))
    block = block_taken(config.backbone, config.block)
    if block is not None:
        check_offered(config)
    split, patients, left_out = pretraining_split(config, stores)
    channels = span_of(config.context) * _same_channels(stores)
    network: dict[str, Any] = {"in_channels": channels, "classes": 2, "width": config.width}
    if block is not None:
        network["strides"] = strides_for(stores, patients, block)
    method = methods.build(config.method, backbones.load(config.backbone)(**network), config.method_settings)
    fed = unlabelled_feed(config, stores, patients, neighbourhood=method.neighbourhood)
    session = Session(
        config,
        method,
        fed.dataset,
        device,
        least=LEAST_STEPS,
        accumulate=config.accumulate,
        recompute=config.recompute,
        redraw=fed.redraw,
    )
    info = {
        "kind": "pretrain",
        "backbone": {"name": config.backbone, **network},
        "transfers": list(method.pretrained_modules),
        "method": {"learning_rate": _peak(config, method), **_settings_of(type(method), config)},
        "stores": [{"path": str(s.path), "digest": s.digest} for s in stores],
        **({"left_out": left_out} if left_out else {}),
    }
    watched = watched_volumes(config, stores, patients, config.context)
    had = earlier(type(method), session.recorded.get("settings", {})) if session.recorded else {}
    if session.begin(_trial, info, split, _title(config, fed.words), method=had):
        _train(config, method, session, watched)
    return config.out


def _peak(config: PretrainConfig, method: methods.Method) -> float:
    return method.learning_rate if config.learning_rate is None else config.learning_rate


def _settings_of(method: type[methods.Method], config: PretrainConfig) -> dict[str, Any]:
    """All settings of the method, so that a run is not gone on with by a version whose defaults are others."""
    defaults = {each.name: each.default for each in methods.settings(method)}
    return {name: value for name, value in {**defaults, **config.method_settings}.items() if isinstance(value, PLAIN)}


def _train(
    config: PretrainConfig, method: methods.Method, session: Session[methods.Method], watched: SliceBatch | None
) -> None:
    steps, device = session.steps, session.device
    peak = _peak(config, method)
    optimizer = sgd(method.parameters(), weight_decay=config.weight_decay, decays_all=method.decays_all)
    phase = math.ceil(steps / method.phases)
    monitor = _Monitor(steps)
    watch = session.watch(watched, config.context)
    with session.loop("pre-train", optimizer) as loop:
        for step in range(loop.start, steps):
            learning_rate = cosine(
                *(step % phase, phase), peak=peak, final=peak * method.final_rate, warmup=int(config.warmup * phase)
            )
            set_learning_rate(optimizer, learning_rate)
            optimizer.zero_grad()
            losses: dict[str, Tensor] = {}
            for part in range(config.accumulate):
                batch = next(loop.batches).to(device)
                views = method.views(batch, loop.generator)
                if step == loop.start and part == 0:
                    before = config.context * (batch.images.shape[1] // span_of(config.context))
                    for number, view in enumerate(views):
                        shown = view if view.ndim == 4 else view[:, :, view.shape[2] // 2]
                        loop.log.pictures(f"views/{number}", shown[:, before:])
                with autocast(device, session.execution.precision):
                    losses = method(views, batch)
                (losses["loss"] / config.accumulate).backward()
            average_gradients(method.parameters())
            if method.clip:
                clip_each(method.parameters(), method.clip)
            optimizer.step()
            method.after_step((step + 1) / steps)
            monitor(step, loop.add(step + 1, {**losses, "learning_rate": learning_rate}))
            if watch is not None and watch.is_due(step + 1):
                watch.similarity(method, method.bottleneck, loop.log)
            loop.save_or_stop(step + 1)


def _trial(method: methods.Method, batch: SliceBatch, precision: torch.dtype) -> Callable[[], Tensor]:
    """The loss of a step, to measure how long it takes."""
    views = method.views(batch, Generator().manual_seed(0))

    def loss() -> Tensor:
        with autocast(batch.images.device, precision):
            return method(views, batch)["loss"]

    return loss


def _same_channels(stores: Sequence[Store]) -> int:
    channels = {str(store.path): store.channels for store in stores}
    if len(set(channels.values())) > 1:
        raise DataError(f"stores with different numbers of channels cannot be pre-trained together: {channels}")
    return stores[0].channels


def _title(config: PretrainConfig, words: str) -> str:
    """What is trained and on what, for the user."""
    several = f"{world_size()} processes of " if world_size() > 1 else ""
    parts = f"{config.accumulate} times " if config.accumulate > 1 else ""
    each = "slices" if config.block is None else "blocks"
    return (
        f"{config.method} on {words}, {several}{parts}"
        f"{config.batch_size} {each} a step, {config.backbone} of width {config.width}"
    )


class _Monitor:
    """Warns once when all slices come to have the same projection."""

    def __init__(self, steps: int) -> None:
        self.first = max(steps // 5, WATCHED_FROM)
        self.warned = False

    def __call__(self, step: int, means: dict[str, float] | None) -> None:
        if means is None:
            return
        if self.warned or step < self.first or means.get("feature_std", 1.0) > COLLAPSED:
            return
        self.warned = True
        warnings.warn(
            f"step {step + 1}: the features have collapsed (spread {means['feature_std']:.3f}); this run will not "
            "help. Try a lower --learning-rate or a longer --warmup",
            stacklevel=2,
        )
