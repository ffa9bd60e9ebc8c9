"""Pre-training: a method, its optimiser, and one visible loop over batches of unlabelled slices."""

import inspect
import math
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, cast

import torch
from torch import Generator, nn

from jcl import backbones, methods
from jcl.checkpoint import Checkpointer
from jcl.config import PretrainConfig, as_mapping
from jcl.data.batches import BatchOrder, SliceIndex, Slices, list_slices, load_batches
from jcl.data.splits import Split, make_split, take_split, write_split
from jcl.data.store import Store
from jcl.device import autocast, resolve_device, resolve_precision
from jcl.errors import DataError, JclError, UsageError
from jcl.optim import budget, cosine, set_learning_rate, sgd
from jcl.runlog import RunLog
from jcl.runs import StopRequest, interrupted, is_finished, save_model, start_run

LEAST_STEPS = 6000
"""Default floor of the number of steps; docs/results.md shows what shorter runs give."""

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
    """
    with ExitStack() as opened:
        stores = [opened.enter_context(closing(Store.open(path))) for path in config.stores]
        return _pretrain(config, stores)


def _pretrain(config: PretrainConfig, stores: Sequence[Store]) -> Path:
    split, patients = _choose_patients(config, stores)
    slices = list_slices(stores, patients, labelled=False)
    device = resolve_device(config.devices)
    precision = resolve_precision(config.precision, device)

    torch.manual_seed(config.seed)
    network = {"in_channels": _same_channels(stores), "classes": 2, "width": config.width}
    method = _build_method(config, backbones.load(config.backbone)(**network))
    method.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    trained = cast("methods.Method", method)
    order = BatchOrder([s.store for s in slices], config.batch_size, seed=config.seed)
    steps = budget(epochs=config.epochs, steps=config.steps, batches=order.batches_per_epoch, least=LEAST_STEPS)
    info = {
        "kind": "pretrain",
        "settings": as_mapping(config),
        "backbone": {"name": config.backbone, **network},
        "transfers": list(trained.transfers),
        "steps": steps,
        "precision": str(precision).removeprefix("torch."),
        "stores": [{"path": str(s.path), "digest": s.digest} for s in stores],
    }
    start_run(config.out, info, resume=config.resume)
    if is_finished(config.out):
        print(f"{config.out}: finished already", file=sys.stderr)
        return config.out
    if split is not None:
        write_split(config.out / "split.json", split)
    _announce(config, slices, order.batches_per_epoch, steps, device, precision)

    rate = trained.learning_rate if config.learning_rate is None else config.learning_rate
    optimizer = sgd(method.parameters(), weight_decay=config.weight_decay)
    generator = Generator().manual_seed(config.seed)
    checkpointer = Checkpointer(config.out, method, optimizer, generator, minutes=config.checkpoint_minutes)
    start = order.start = checkpointer.restore()
    batches = load_batches(Slices(stores, slices, labels=False), order, workers=config.workers)
    watch = _Watch(steps)
    phase = math.ceil(steps / trained.phases)
    method.train()
    with (
        RunLog(config.out, "pre-train", steps=steps, start=start, batch_size=config.batch_size) as log,
        StopRequest() as stop,
    ):
        for step in range(start, steps):
            learning_rate = cosine(step % phase, phase, peak=rate, warmup=int(config.warmup * phase))
            set_learning_rate(optimizer, learning_rate)
            batch = next(batches).to(device)
            views = trained.views(batch, generator)
            if step == start:
                for number, view in enumerate(views):
                    log.pictures(f"views/{number}", view)
            with autocast(device, precision):
                losses = trained(views, batch)
            optimizer.zero_grad()
            losses["loss"].backward()
            optimizer.step()
            trained.after_step((step + 1) / steps)
            watch(step, log.add({**losses, "learning_rate": learning_rate}))
            if stop.asked:
                checkpointer.save(step + 1)
                raise interrupted(config.out, step + 1)
            checkpointer.save_when_due(step + 1)
    save_model(config.out, method)
    return config.out


def _choose_patients(config: PretrainConfig, stores: Sequence[Store]) -> tuple[Split | None, list[set[str] | None]]:
    """The split, if one is asked for, and the patients of each store to train on (None: all)."""
    if config.split is None and config.fold is None:
        return None, [None] * len(stores)
    if config.split is not None and config.fold is not None:
        raise UsageError("give --split or --fold, not both")
    # a split names patients of the first store; the others are used whole
    patients = {record.patient for record in stores[0].cases}
    if config.split is not None:
        split = take_split(config.split, patients)
    else:
        split = make_split(patients, fold=cast("int", config.fold), folds=config.folds, seed=config.split_seed)
    return split, [set(split.train), *[None] * (len(stores) - 1)]


def _same_channels(stores: Sequence[Store]) -> int:
    channels = {str(store.path): store.channels for store in stores}
    if len(set(channels.values())) > 1:
        raise DataError(f"stores with different numbers of channels cannot be pre-trained together: {channels}")
    return stores[0].channels


def _build_method(config: PretrainConfig, backbone: nn.Module) -> nn.Module:
    """The method with its settings; a setting it does not have is an error that lists those it has."""
    build = methods.load(config.method)
    known = {n: p.default for n, p in inspect.signature(build).parameters.items() if n != "backbone"}
    for name, value in config.method_settings.items():
        if name not in known:
            raise UsageError(f"method {config.method} has no setting {name!r}; it has: {', '.join(known)}")
        kind = type(known[name])
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise UsageError(f"method {config.method}: {name} is {value!r}, which is no {kind.__name__}")
    return build(backbone, **config.method_settings)


def _announce(
    config: PretrainConfig, slices: Sequence[SliceIndex], batches: int, steps: int, device: Any, precision: Any
) -> None:
    cases = len({(s.store, s.case) for s in slices})
    print(
        f"{config.method} on {len(slices)} slices of {cases} volumes: {steps} steps ({steps / batches:.0f} epochs) "
        f"of {config.batch_size} slices, {config.backbone} of width {config.width}, {device}, "
        f"{str(precision).removeprefix('torch.')}",
        file=sys.stderr,
    )


class _Watch:
    """Stops a run whose loss is no number, and warns once when all slices come to have the same projection."""

    def __init__(self, steps: int) -> None:
        self.first = max(steps // 5, WATCHED_FROM)
        self.warned = False

    def __call__(self, step: int, means: dict[str, float] | None) -> None:
        if means is None:
            return
        if not math.isfinite(means["loss"]):
            raise JclError(f"step {step + 1}: the loss is {means['loss']}; try a lower --learning-rate")
        if self.warned or step < self.first or means.get("feature_std", 1.0) > COLLAPSED:
            return
        self.warned = True
        warnings.warn(
            f"step {step + 1}: the features have collapsed (spread {means['feature_std']:.3f}); this run will not "
            "help. Try a lower --learning-rate or a longer --warmup",
            stacklevel=2,
        )
