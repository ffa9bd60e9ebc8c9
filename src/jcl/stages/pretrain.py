"""Pre-training: a method, its optimiser, and one visible loop over batches of unlabelled slices."""

import copy
import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Generator, Tensor, nn

from jcl import backbones, methods
from jcl.allocator import keep_memory
from jcl.checkpoint import Checkpointer
from jcl.config import PretrainConfig, as_mapping, defaults
from jcl.data.batches import BatchOrder, SliceBatch, SliceList, Slices, list_slices, load_batches
from jcl.data.splits import Split, make_split, take_split, write_split
from jcl.data.store import Store
from jcl.deterministic import bit_for_bit
from jcl.device import autocast, resolve_device
from jcl.distributed import average_gradients, is_first, own_generator, processes, rank
from jcl.errors import DataError, JclError, UsageError
from jcl.launch import launch
from jcl.norms import share_statistics
from jcl.optim import budget, cosine, set_learning_rate, sgd
from jcl.runlog import run_log, tell
from jcl.runs import StopRequest, is_finished, recorded_run, save_model, save_or_stop, start_run, surroundings
from jcl.trial import Execution, choose_execution, run_as

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
        JclError: the loss became no number, or one of several processes died.
    """
    return launch(_pretrain_here, config, devices=config.devices, timeout_minutes=config.timeout_minutes)


def _pretrain_here(config: PretrainConfig) -> Path:
    """What each process does."""
    keep_memory()
    with ExitStack() as opened:
        opened.enter_context(bit_for_bit(config.deterministic))
        stores = [opened.enter_context(closing(Store.open(path))) for path in config.stores]
        return _pretrain(config, stores)


def _pretrain(config: PretrainConfig, stores: Sequence[Store]) -> Path:
    if config.accumulate < 1:
        raise UsageError(f"accumulate is {config.accumulate}; at least 1 batch makes a step")
    split, patients = _choose_patients(config, stores)
    slices = list_slices(stores, patients, labelled=False)
    device = resolve_device(config.devices)

    torch.manual_seed(config.seed)
    network = {"in_channels": _same_channels(stores), "classes": 2, "width": _width(config)}
    method = _build_method(config, backbones.load(config.backbone)(**network))
    share_statistics(method, device)
    method.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    trained = cast("methods.Method", method)
    order = BatchOrder(slices.stores(), config.batch_size, seed=config.seed, rank=rank(), processes=processes())
    steps_per_epoch = max(1, order.batches_per_epoch // config.accumulate)
    steps = budget(epochs=config.epochs, steps=config.steps, batches=steps_per_epoch, least=LEAST_STEPS)
    recorded = recorded_run(config.out, resume=config.resume)
    batches = Slices(stores, slices, labels=False)
    execution, why = choose_execution(
        _trial(method, lambda: batches.read(next(iter(order))).to(device), config, device),
        precision=config.precision,
        compile=config.compile,
        kernels=config.kernels,
        steps=0 if is_finished(config.out) else steps,
        device=device,
        recorded=recorded,
        deterministic=config.deterministic,
    )
    info = {
        "kind": "pretrain",
        "settings": as_mapping(replace(config, width=network["width"])),
        "backbone": {"name": config.backbone, **network},
        "transfers": list(trained.transfers),
        "steps": steps,
        **execution.record(),
        **surroundings(deterministic=config.deterministic),
        "stores": [{"path": str(s.path), "digest": s.digest} for s in stores],
    }
    start_run(config.out, info, recorded, defaults(PretrainConfig))
    if is_finished(config.out):
        tell(f"{config.out}: finished already")
        return config.out
    if split is not None and is_first():
        write_split(config.out / "split.json", split)
    _announce(config, slices, steps_per_epoch, steps, device, f"{execution} ({why})")
    _train(config, method, batches, order, steps=steps, device=device, execution=execution)
    return config.out


def _train(
    config: PretrainConfig,
    method: nn.Module,
    slices: Slices,
    order: BatchOrder,
    *,
    steps: int,
    device: torch.device,
    execution: Execution,
) -> None:
    trained = cast("methods.Method", method)
    rate = trained.learning_rate if config.learning_rate is None else config.learning_rate
    optimizer = sgd(method.parameters(), weight_decay=config.weight_decay)
    generator = own_generator(config.seed)
    checkpointer = Checkpointer(config.out, method, optimizer, generator, minutes=config.checkpoint_minutes)
    start = checkpointer.restore()
    order.start = start * config.accumulate
    batches = load_batches(slices, order, workers=config.workers, pinned=device.type == "cuda")
    run_as(trained.backbone, execution, method=method, recompute=config.recompute)
    watch = _Watch(steps)
    phase = math.ceil(steps / trained.phases)
    method.train()
    sizes = {"batch_size": config.batch_size * config.accumulate * processes()}
    with (
        run_log(config.out, "pre-train", steps=steps, start=start, **sizes) as log,
        StopRequest() as stop,
    ):
        for step in range(start, steps):
            learning_rate = cosine(step % phase, phase, peak=rate, warmup=int(config.warmup * phase))
            set_learning_rate(optimizer, learning_rate)
            optimizer.zero_grad()
            losses: dict[str, Tensor] = {}
            for part in range(config.accumulate):
                batch = next(batches).to(device)
                views = trained.views(batch, generator)
                if step == start and part == 0:
                    for number, view in enumerate(views):
                        log.pictures(f"views/{number}", view)
                with autocast(device, execution.precision):
                    losses = trained(views, batch)
                (losses["loss"] / config.accumulate).backward()
            average_gradients(method.parameters())
            optimizer.step()
            trained.after_step((step + 1) / steps)
            watch(step, log.add({**losses, "learning_rate": learning_rate}))
            save_or_stop(checkpointer, stop, step + 1)
    save_model(config.out, method)


def _trial(
    method: nn.Module, read: Callable[[], SliceBatch], config: PretrainConfig, device: torch.device
) -> Callable[[Execution], Callable[[], None]]:
    """Steps on a copy of the method, to measure how long they take."""

    def make(execution: Execution) -> Callable[[], None]:
        own = copy.deepcopy(method).train()
        trained = cast("methods.Method", own)
        run_as(trained.backbone, execution, method=own, recompute=config.recompute)
        batch = read()
        views = trained.views(batch, Generator().manual_seed(0))

        def step() -> None:
            with autocast(device, execution.precision):
                loss = trained(views, batch)["loss"]
            own.zero_grad()
            loss.backward()

        return step

    return make


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


def _width(config: PretrainConfig) -> int:
    return backbones.own_width(config.backbone) if config.width is None else config.width


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
    config: PretrainConfig,
    slices: SliceList,
    steps_per_epoch: int,
    steps: int,
    device: torch.device,
    execution: str,
) -> None:
    several = f"{processes()} processes of " if processes() > 1 else ""
    parts = f"{config.accumulate} times " if config.accumulate > 1 else ""
    tell(
        f"{config.method} on {len(slices)} slices of {len(slices.cases)} volumes: {steps} steps "
        f"({steps / steps_per_epoch:.0f} epochs) of {several}{parts}{config.batch_size} slices, "
        f"{config.backbone} of width {_width(config)}, {device}, {execution}"
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
