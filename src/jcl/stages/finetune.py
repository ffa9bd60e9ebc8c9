"""Fine-tuning: a segmentation network on few labelled patients, from a pre-training or from scratch."""

import hashlib
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jcl import backbones
from jcl.augment.label_noise import corrupt_labels
from jcl.augment.spatial import AffineRanges, random_affine, warp_with_labels
from jcl.backbones._transfer import pretrained_modules_of, transfer
from jcl.config import FinetuneConfig
from jcl.data.batches import SliceBatch, SliceDataset, list_slices
from jcl.data.manifest import IGNORE
from jcl.data.store import Store
from jcl.distributed.comm import average_gradients
from jcl.distributed.device import autocast
from jcl.distributed.launch import launch
from jcl.errors import DataError, UsageError, foreign_code
from jcl.limits import check_numbers
from jcl.losses.segmentation import cross_entropy
from jcl.training.checkpoint import read_weights
from jcl.training.class_coverage import check_classes
from jcl.training.optim import adam, cosine, set_learning_rate
from jcl.training.run_folder import only_writer, read_model, read_run, weights_digest
from jcl.training.run_record import recorded
from jcl.training.run_split import finetuning_split
from jcl.training.session import Session, seeded

LEAST_STEPS = 1000
"""Default floor of the number of steps: with one or two patients 100 epochs are too few to converge."""


def finetune(config: FinetuneConfig) -> Path:
    """Train on `config.patients` labelled patients of the training fold; returns the run folder.

    Cross-entropy, Adam with a cosine from the learning rate to a hundredth of it, the last weights kept (paper,
    section 4.1): nothing is chosen on the test patients, which are not even read.

    Raises:
        UsageError: settings that cannot be used, or that are not those of the run to resume; or a test patient whose
            images the initial run has seen (see `jcl.training.run_split`).
        DataError: a store without labels, an initial run that cannot be used or does not fit.
        Interrupted: a signal asked to stop; the run is saved.
        JclError: loss or weights became NaN or infinite, or one of several processes died.
    """
    check_numbers(config)
    with only_writer(config.out), recorded(config):
        return launch(_finetune_here, config, devices=config.devices, timeout_minutes=config.timeout_minutes)


def _finetune_here(config: FinetuneConfig) -> Path:
    """What each process does."""
    with seeded(config) as device, closing(Store.open(config.store)) as store:
        return _finetune(config, store, device)


def _finetune(config: FinetuneConfig, store: Store, device: torch.device) -> Path:
    backbone = _choose_backbone(config, store)
    config, split = finetuning_split(config, store)
    slices = list_slices([store], [set(split.train)], labelled=True)
    check_classes(store, split.train)
    network = _build(config, backbone)
    start_info = _initialise(config, network)
    session = Session(config, network, SliceDataset([store], slices, labels=True), device, least=LEAST_STEPS)
    info = {
        "kind": "finetune",
        "backbone": backbone,
        "init": start_info,
        "store": str(store.path),
        "store_digest": store.digest,
        "recipe": store.preparation,
        "class_names": list(store.class_names),
    }
    count = "1 patient" if len(split.train) == 1 else f"{len(split.train)} patients"
    title = f"{count}, {len(slices)} slices, {start_info['report']}"
    ignore = IGNORE if store.ignores else None
    if session.begin(partial(_trial, ignore), info, split, title):
        _train(config, network, session, ignore)
    return config.out


def _train(
    config: FinetuneConfig, network: backbones.Backbone, session: Session[backbones.Backbone], ignore: int | None
) -> None:
    steps, device = session.steps, session.device
    ranges = AffineRanges(rotation=config.rotation, scale=config.scale, translation=config.translation)
    optimizer = adam(network.parameters())
    with session.loop("fine-tune", optimizer) as loop:
        for step in range(loop.start, steps):
            learning_rate = cosine(step, steps, peak=config.learning_rate, final=config.learning_rate / 100)
            set_learning_rate(optimizer, learning_rate)
            batch = corrupt_labels(next(loop.batches), config.label_noise, config.seed, ignore=ignore).to(device)
            assert batch.labels is not None
            matrices = random_affine(len(batch.images), ranges, generator=loop.generator, device=device)
            images, labels = warp_with_labels(batch.images, batch.labels, matrices)
            loss = _loss(network, images, labels, session.execution.precision, ignore)
            optimizer.zero_grad()
            loss.backward()
            average_gradients(network.parameters())
            optimizer.step()
            loop.add(step + 1, {"loss": loss, "learning_rate": learning_rate})
            loop.save_or_stop(step + 1)


def _loss(network: nn.Module, images: Tensor, labels: Tensor, precision: torch.dtype, ignore: int | None) -> Tensor:
    with autocast(images.device, precision):
        logits = network(images.contiguous(memory_format=torch.channels_last))
    return cross_entropy(logits, labels, ignore=ignore)


def _trial(
    ignore: int | None, network: backbones.Backbone, batch: SliceBatch, precision: torch.dtype
) -> Callable[[], Tensor]:
    """The loss of a step, to measure how long it takes."""
    assert batch.labels is not None
    return partial(_loss, network, batch.images, batch.labels, precision, ignore)


def _choose_backbone(config: FinetuneConfig, store: Store) -> dict[str, Any]:
    """Name and settings of the network: those of the initial run, unless they are given or there is none."""
    has_run = config.init != "none" and not _is_weights_file(Path(config.init))
    given = read_run(Path(config.init), "pretrain")["backbone"] if has_run else {}
    for key, value in (("name", config.backbone), ("width", config.width)):
        if value is not None and key in given and given[key] != value:
            raise UsageError(f"{key} {value} does not fit {config.init}, which has {given[key]}; leave it out")
    name: str = given.get("name") or config.backbone or "unet"
    if ":" in name and config.backbone is None and not config.trust_code:  # before its width is asked for
        raise foreign_code(Path(config.init, "run.json"), "network", name)
    return {
        "name": name,
        "in_channels": store.channels,
        "classes": len(store.class_names) + 1,
        "width": given.get("width") or config.width or backbones.default_width(name),
    }


def _build(config: FinetuneConfig, backbone: dict[str, Any]) -> backbones.Backbone:
    """What the user typed is imported; what only the initial run's file says, as `rebuild` allows."""
    if config.backbone is None:
        return backbones.rebuild(backbone, Path(config.init, "run.json"), trust_code=config.trust_code)
    return backbones.load(config.backbone)(**{key: value for key, value in backbone.items() if key != "name"})


def _initialise(config: FinetuneConfig, network: backbones.Backbone) -> dict[str, Any]:
    """Carry the initial weights over; returns what `run.json` records of it."""
    if config.init == "none":
        return {"run": None, "report": "from random weights"}
    path = Path(config.init)
    if _is_weights_file(path):
        weights, parts, digest = read_weights(path), None, hashlib.sha256(path.read_bytes()).hexdigest()
    else:
        weights = {k.removeprefix("backbone."): t for k, t in read_model(path).items() if k.startswith("backbone.")}
        parts, digest = read_run(path, "pretrain")["transfers"], weights_digest(path)
    try:
        report = transfer(network, weights, parts or pretrained_modules_of(network, weights), adapt=config.adapt)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return {"run": config.init, "digest": digest, "report": f"from {config.init}: {report}"}


def _is_weights_file(path: Path) -> bool:
    return path.is_file() or path.suffix == ".safetensors"
