"""Fine-tuning: a segmentation network on few labelled patients, from a pre-training or from scratch."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from jcl import backbones, models, semi
from jcl.augment.batches import augment_batch
from jcl.augment.label_noise import corrupt_labels
from jcl.augment.labelled import LabelledRanges
from jcl.augment.spatial import AffineRanges
from jcl.config import FinetuneConfig
from jcl.data.batches import SliceBatch, load_batches
from jcl.data.block_plan import with_block
from jcl.data.context import with_context
from jcl.data.manifest import IGNORE
from jcl.data.sampler import BatchSampler
from jcl.data.store import Store
from jcl.distributed.comm import average_gradients, rank, world_size
from jcl.distributed.device import autocast, channels_last
from jcl.distributed.launch import launch
from jcl.errors import UsageError
from jcl.limits import check_numbers
from jcl.losses.segmentation import LOSSES
from jcl.training.averaging import averaged_copy, update_average
from jcl.training.blocks import FOREGROUND, block_taken, check_offered, strides_for
from jcl.training.class_coverage import check_classes
from jcl.training.feed import Feed, labelled_feed
from jcl.training.initial_network import build_network, choose_backbone, initial_backbone, take_initial_weights
from jcl.training.initial_run import context_taken
from jcl.training.optim import adam, cosine, set_learning_rate
from jcl.training.recipes import before_recipes, settle
from jcl.training.run_folder import only_writer, recorded_run
from jcl.training.run_record import recorded
from jcl.training.run_split import finetuning_split
from jcl.training.seen_scans import seen_scans
from jcl.training.session import Session, seeded
from jcl.training.shapes import shapes_of
from jcl.training.technique import with_technique
from jcl.training.trackers.chosen import check_trackers
from jcl.training.unlabelled import feed_without_labels, unlabelled_record
from jcl.training.watching import check_watch, watched_labels

_LossOf = partial[Tensor]
"""A loss of `jcl.losses.segmentation` with its `ignore`."""

APART = 500_009
"""Between the seeds of labelled and unlabelled batches, so that neighbouring seeds of a user's have none in common."""

LEAST_STEPS = 1000
"""Default floor of the number of steps: with one or two patients 100 epochs are too few to converge."""


def finetune(config: FinetuneConfig) -> Path:
    """Train on `config.patients` labelled patients of the training fold; returns the run folder.

    By one of two recipes (`jcl.training.recipes`), both with Adam and a cosine from the learning rate to a hundredth of
    it: `paper` is that of the paper, section 4.1, which keeps the last weights; `strong` has Dice in its loss, more
    augmentation, keeps the average of the weights, and by a technique of `jcl.semi` learns of the store's scans
    without labels as well, where there are any. Nothing is chosen on the test patients, which are not even read.

    Raises:
        UsageError: settings that cannot be used, or that are not those of the run to resume; or a test patient whose
            images the initial run has seen (see `jcl.training.run_split`).
        DataError: a store without labels, an initial run that cannot be used or does not fit.
        Interrupted: a signal asked to stop; the run is saved.
        JclError: loss or weights became NaN or infinite, or one of several processes died.
    """
    check_numbers(config)
    check_trackers(config.tracker)
    config = replace(config, init=models.folder_of(config.init))
    with only_writer(config.out), recorded(config):
        return launch(_finetune_here, config, devices=config.devices, timeout_minutes=config.timeout_minutes)


def _finetune_here(config: FinetuneConfig) -> Path:
    """What each process does."""
    with ExitStack() as opened:
        device = opened.enter_context(seeded(config))
        store = opened.enter_context(closing(Store.open(config.store)))
        others = [opened.enter_context(closing(Store.open(path))) for path in config.unlabelled] or [store]
        return _finetune(config, store, others, device)


def _finetune(config: FinetuneConfig, store: Store, others: list[Store], device: torch.device) -> Path:
    given, config = config, settle(config, recorded_run(config.out, resume=config.resume))
    context = context_taken(config.init, config.context)
    config = replace(config, context=context)
    config = _with_block(config, given)
    _check_technique(config)
    check_watch(config, blocks=config.block is not None)
    backbone = choose_backbone(config, store)
    config, split = finetuning_split(config, store)
    config = with_technique(config, given, store, split)
    fed = labelled_feed(config, store, split)
    check_classes(store, split.train)
    if config.block is not None and "strides" not in backbone:
        backbone["strides"] = strides_for([store], [set(split.train)], config.block)
    network = build_network(config, backbone)
    start_info = take_initial_weights(config, network)
    info: dict[str, Any] = {
        "kind": "finetune",
        "backbone": backbone,
        "init": start_info,
        "store": str(store.path),
        "store_digest": store.digest,
        "recipe": with_block(with_context(store.preparation, context), config.block),
        "class_names": list(store.class_names),
        **shapes_of(store, split.train),
        **seen_scans(store, split.train),
    }
    count = "1 patient" if len(split.train) == 1 else f"{len(split.train)} patients"
    title = f"{count}, {fed.words}, {start_info['report']}"
    technique, unlabelled = None, None
    if config.semi is not None:
        unlabelled, patients = feed_without_labels(config, store, split, others)
        info["unlabelled"] = unlabelled_record(others, patients)
        technique = _technique(config, backbone, network)
        title = f"{config.semi} on {title}"
    ignore = IGNORE if store.ignores else None
    loss = partial(_loss_of(config), ignore=ignore)
    noise = {"share": config.label_noise, "kind": config.label_noise_kind, "classes": len(store.class_names)}
    corrupt = partial(corrupt_labels, **noise, seed=config.seed, ignore=ignore)
    watched = watched_labels(config, store, split, context or 0)
    session = Session[nn.Module](
        config, technique or network, fed.dataset, device, least=LEAST_STEPS, redraw=fed.redraw
    )
    if session.begin(partial(_trial, config, loss), info, split, title, before=before_recipes()):
        _train(config, network, technique, session, loss, corrupt, unlabelled, watched)
    return config.out


def _train(
    config: FinetuneConfig,
    network: backbones.Backbone,
    technique: semi.Technique | None,
    session: Session[nn.Module],
    loss_of: _LossOf,
    corrupt: Callable[[SliceBatch], SliceBatch],
    unlabelled: Feed | None,
    watched: SliceBatch | None,
) -> None:
    model, steps, device = session.model, session.steps, session.device
    ranges, peak, decay = _ranges(config), config.learning_rate or 0.0, config.average
    warmup = int((config.warmup or 0.0) * steps)
    trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
    optimizer = adam(trained, weight_decay=config.weight_decay)
    average = averaged_copy(network) if decay else None
    watch = session.watch(watched, config.context or 0)
    with session.loop("fine-tune", optimizer, average or network, averaged=average is not None) as loop:
        others = _unlabelled_batches(config, unlabelled, loop.start, device)
        for step in range(loop.start, steps):
            learning_rate = cosine(step, steps, peak=peak, final=peak / 100, warmup=warmup)
            set_learning_rate(optimizer, learning_rate)
            batch = corrupt(next(loop.batches)).to(device)
            if technique is None:
                images, labels = augment_batch(batch, ranges, generator=loop.generator)
                losses = {"loss": _loss(network, images, labels, session.execution.precision, loss_of)}
            else:
                views = technique.views(batch, next(others).to(device), loop.generator)
                losses = _losses(technique, views, semi.Progress(step, steps), session.execution.precision)
            optimizer.zero_grad()
            losses["loss"].backward()
            average_gradients(model.parameters())
            optimizer.step()
            if technique is not None:
                technique.after_step(semi.Progress(step + 1, steps))
            if average is not None and decay:
                update_average(average, network, step=step + 1, decay=decay)
            loop.add(step + 1, {**losses, "learning_rate": learning_rate})
            if watch is not None and watch.is_due(step + 1):
                watch.predictions(average or network, loop.log)
            loop.save_or_stop(step + 1)


def _unlabelled_batches(
    config: FinetuneConfig, unlabelled: Feed | None, start: int, device: torch.device
) -> Iterator[SliceBatch]:
    """Batches of a technique's slices or blocks without labels, in an order of their own, from step `start` on."""
    if unlabelled is None:
        return iter(())
    order = BatchSampler(
        unlabelled.dataset.store_numbers(),
        config.unlabelled_batch_size or config.batch_size,
        seed=config.seed + APART,
        start=start,
        rank=rank(),
        processes=world_size(),
        redraw=unlabelled.redraw,
    )
    return load_batches(unlabelled.dataset, order, workers=config.workers, pinned=device.type == "cuda")


def _check_technique(config: FinetuneConfig) -> None:
    """See that a settled configuration's technique is there and takes its settings.

    Raises:
        UsageError: it is not, or does not; or what only techniques use is given to none.
    """
    if config.semi is not None:
        semi.check(config.semi, config.semi_settings, 2 if config.block is None else 3)
        return
    given: dict[str, object] = {
        "--semi.NAME": config.semi_settings,
        "--unlabelled": config.unlabelled,
        "--unlabelled-batch-size": config.unlabelled_batch_size,
    }
    for flag, value in given.items():
        if value:
            raise UsageError(f"{flag} is for --semi, which is none here; there are: {', '.join(semi.available())}")


def _technique(config: FinetuneConfig, backbone: dict[str, Any], network: backbones.Backbone) -> semi.Technique:
    """The technique around the network; another one begins with the same pre-trained parts, and else by itself."""

    def another() -> backbones.Backbone:
        other = build_network(config, backbone)
        take_initial_weights(config, other)
        return other

    assert config.semi is not None
    supervision = semi.Supervision(
        loss=partial(_loss_of(config), ignore=IGNORE), ranges=_ranges(config), another=another
    )
    return semi.build(config.semi, network, supervision, config.semi_settings)


def _loss_of(config: FinetuneConfig) -> Callable[..., Tensor]:
    """The loss of a settled configuration."""
    assert config.loss is not None
    return LOSSES[config.loss]


def _ranges(config: FinetuneConfig) -> LabelledRanges:
    """The ranges of a settled configuration."""
    affine = AffineRanges(
        rotation=config.rotation or 0.0, scale=config.scale or 0.0, translation=config.translation or 0.0
    )
    return LabelledRanges(affine=affine, elastic=config.elastic or 0.0, intensity=config.intensity or 0.0)


def _loss(network: nn.Module, images: Tensor, labels: Tensor, precision: torch.dtype, loss_of: _LossOf) -> Tensor:
    with autocast(images.device, precision):
        logits = network(images.contiguous(memory_format=channels_last(images.ndim - 2)))
    return loss_of(logits, labels)


def _losses(
    technique: semi.Technique, views: dict[str, Tensor], progress: semi.Progress, precision: torch.dtype
) -> dict[str, Tensor]:
    with autocast(views["images"].device, precision):
        return technique(views, progress)


def _trial(
    config: FinetuneConfig, loss_of: _LossOf, model: nn.Module, batch: SliceBatch, precision: torch.dtype
) -> Callable[[], Tensor]:
    """The loss of a step, to measure how long it takes; of a technique when slices without labels count."""
    assert batch.labels is not None
    if not isinstance(model, semi.Technique):
        return partial(_loss, model, batch.images, batch.labels, precision, loss_of)
    count = config.unlabelled_batch_size or config.batch_size
    others = batch.rows(torch.arange(count) % len(batch.images))
    views = model.views(batch, others, Generator().manual_seed(0))
    return lambda: _losses(model, views, semi.Progress(1, 1), precision)["loss"]


def _with_block(config: FinetuneConfig, asked: FinetuneConfig) -> FinetuneConfig:
    """The settings with the block that a network of three dimensions sees, and with its share around structures.

    Args:
        config: settled by the recipe.
        asked: as the user gave it.
    """
    given = initial_backbone(config)
    name: str = given.get("name") or config.backbone or "unet"
    block = block_taken(name, config.block, Path(config.init, "run.json") if given else None)
    if block is None:
        return config
    check_offered(config)
    return replace(config, block=block, foreground=FOREGROUND if asked.foreground is None else asked.foreground)
