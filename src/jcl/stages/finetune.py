"""Fine-tuning: a segmentation network on few labelled patients, from a pre-training or from scratch."""

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Generator, nn
from torch.nn import functional as F

from jcl import backbones
from jcl.checkpoint import Checkpointer, read_weights
from jcl.config import FinetuneConfig, as_mapping
from jcl.data.batches import BatchOrder, Slices, list_slices, load_batches
from jcl.data.splits import Split, few_patients, make_split, take_split, write_split
from jcl.data.store import Store
from jcl.device import autocast, resolve_device, resolve_precision
from jcl.errors import DataError, UsageError
from jcl.optim import adam, budget, cosine, set_learning_rate
from jcl.runlog import RunLog
from jcl.runs import StopRequest, interrupted, is_finished, read_model, read_run, save_model, start_run
from jcl.transfer import trained_parts, transfer
from jcl.views import AffineRanges, random_affine, warp_with_labels

LEAST_STEPS = 1000
"""Default floor of the number of steps: with one or two patients 100 epochs are too few to converge."""


def finetune(config: FinetuneConfig) -> Path:
    """Train on `config.patients` labelled patients of the training fold; returns the run folder.

    Cross-entropy, Adam with a cosine from the learning rate to a hundredth of it, the last weights kept (paper,
    section 4.1): nothing is chosen on the test patients, which are not even read.

    Raises:
        UsageError: settings that cannot be used, or that are not those of the run to resume.
        DataError: a store without labels, an initial run that cannot be used or does not fit.
        Interrupted: a signal asked to stop; the run is saved.
    """
    with closing(Store.open(config.store)) as store:
        return _finetune(config, store)


def _finetune(config: FinetuneConfig, store: Store) -> Path:
    split = _choose_patients(config, store)
    slices = list_slices([store], [set(split.train)], labelled=True)
    device = resolve_device(config.devices)
    precision = resolve_precision(config.precision, device)

    torch.manual_seed(config.seed)
    backbone = _choose_backbone(config, store)
    settings = {key: value for key, value in backbone.items() if key != "name"}
    network = backbones.load(backbone["name"])(**settings)
    start_info = _initialise(config, network)
    network.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    order = BatchOrder([0] * len(slices), config.batch_size, seed=config.seed)
    steps = budget(epochs=config.epochs, steps=config.steps, batches=order.batches_per_epoch, least=LEAST_STEPS)
    info = {
        "kind": "finetune",
        "settings": as_mapping(config),
        "backbone": backbone,
        "init": start_info,
        "steps": steps,
        "precision": str(precision).removeprefix("torch."),
        "store": str(store.path),
        "store_digest": store.digest,
        "recipe": store.recipe,
        "class_names": list(store.class_names),
    }
    start_run(config.out, info, resume=config.resume)
    if is_finished(config.out):
        print(f"{config.out}: finished already", file=sys.stderr)
        return config.out
    write_split(config.out / "split.json", split)
    print(
        f"{len(split.train)} patients, {len(slices)} slices, "
        f"{steps} steps ({steps / order.batches_per_epoch:.0f} epochs), "
        f"{device}, {info['precision']}; {start_info['report']}",
        file=sys.stderr,
    )

    optimizer = adam(network.parameters())
    generator = Generator().manual_seed(config.seed)
    checkpointer = Checkpointer(config.out, network, optimizer, generator, minutes=config.checkpoint_minutes)
    start = order.start = checkpointer.restore()
    batches = load_batches(Slices([store], slices, labels=True), order, workers=config.workers)
    ranges = AffineRanges(rotation=config.rotation, scale=config.scale, translation=config.translation)
    network.train()
    with (
        RunLog(config.out, "fine-tune", steps=steps, start=start, batch_size=config.batch_size) as log,
        StopRequest() as stop,
    ):
        for step in range(start, steps):
            learning_rate = cosine(step, steps, peak=config.learning_rate, final=config.learning_rate / 100)
            set_learning_rate(optimizer, learning_rate)
            batch = next(batches).to(device)
            assert batch.labels is not None
            matrices = random_affine(len(batch.images), ranges, generator=generator, device=device)
            images, labels = warp_with_labels(batch.images, batch.labels, matrices)
            with autocast(device, precision):
                logits = network(images.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log.add({"loss": loss, "learning_rate": learning_rate})
            if stop.asked:
                checkpointer.save(step + 1)
                raise interrupted(config.out, step + 1)
            checkpointer.save_when_due(step + 1)
    save_model(config.out, network)
    return config.out


def _choose_patients(config: FinetuneConfig, store: Store) -> Split:
    """The split with the few labelled training patients; patients without labels are left out of it."""
    labelled = sorted({record.patient for record in store.cases if record.labelled})
    if not labelled:
        raise DataError(f"{store.path}: no labelled case; prepare it with labels to fine-tune on it")
    if config.split is not None:
        split = take_split(config.split, {record.patient for record in store.cases})
    else:
        split = make_split(labelled, fold=config.fold, folds=config.folds, seed=config.split_seed)
    return split if config.patients is None else few_patients(split, config.patients, config.split_seed)


def _choose_backbone(config: FinetuneConfig, store: Store) -> dict[str, Any]:
    """Name and settings of the network: those of the initial run, unless they are given or there is none."""
    has_run = config.init != "none" and not _is_weights_file(Path(config.init))
    given = read_run(Path(config.init), "pretrain")["backbone"] if has_run else {}
    for key, value in (("name", config.backbone), ("width", config.width)):
        if value is not None and key in given and given[key] != value:
            raise UsageError(f"{key} {value} does not fit {config.init}, which has {given[key]}; leave it out")
    return {
        "name": given.get("name") or config.backbone or "unet",
        "in_channels": store.channels,
        "classes": len(store.class_names) + 1,
        "width": given.get("width") or config.width or 32,
    }


def _initialise(config: FinetuneConfig, network: nn.Module) -> dict[str, Any]:
    """Carry the initial weights over; returns what `run.json` records of it."""
    if config.init == "none":
        return {"run": None, "report": "from random weights"}
    path = Path(config.init)
    if _is_weights_file(path):
        weights, parts = read_weights(path), None
    else:
        weights = {k.removeprefix("backbone."): t for k, t in read_model(path).items() if k.startswith("backbone.")}
        parts = read_run(path, "pretrain")["transfers"]
    try:
        report = transfer(network, weights, parts or trained_parts(network, weights), adapt=config.adapt)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return {"run": config.init, "report": f"from {config.init}: {report}"}


def _is_weights_file(path: Path) -> bool:
    return path.is_file() or path.suffix == ".safetensors"
