"""Fine-tuning: a segmentation network on few labelled patients, from a pre-training or from scratch."""

import copy
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jcl import backbones
from jcl.allocator import keep_memory
from jcl.checkpoint import Checkpointer, read_weights
from jcl.config import FinetuneConfig, as_mapping, defaults
from jcl.data.batches import BatchOrder, SliceBatch, Slices, list_slices, load_batches
from jcl.data.splits import Split, few_patients, make_split, take_split, write_split
from jcl.data.store import Store
from jcl.deterministic import bit_for_bit
from jcl.device import autocast, resolve_device
from jcl.distributed import average_gradients, is_first, own_generator, processes, rank
from jcl.errors import DataError, UsageError
from jcl.label_noise import check_share, disturb_labels
from jcl.launch import launch
from jcl.norms import share_statistics
from jcl.optim import adam, budget, cosine, set_learning_rate
from jcl.runlog import run_log, tell
from jcl.runs import (
    StopRequest,
    is_finished,
    read_model,
    read_run,
    recorded_run,
    save_model,
    save_or_stop,
    start_run,
    surroundings,
)
from jcl.transfer import trained_parts, transfer
from jcl.trial import Execution, choose_execution, run_as
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
    check_share(config.label_noise)
    return launch(_finetune_here, config, devices=config.devices, timeout_minutes=config.timeout_minutes)


def _finetune_here(config: FinetuneConfig) -> Path:
    """What each process does."""
    keep_memory()
    with bit_for_bit(config.deterministic), closing(Store.open(config.store)) as store:
        return _finetune(config, store)


def _finetune(config: FinetuneConfig, store: Store) -> Path:
    split = _choose_patients(config, store)
    indices = list_slices([store], [set(split.train)], labelled=True)
    device = resolve_device(config.devices)

    torch.manual_seed(config.seed)
    backbone = _choose_backbone(config, store)
    settings = {key: value for key, value in backbone.items() if key != "name"}
    network = backbones.load(backbone["name"])(**settings)
    start_info = _initialise(config, network)
    share_statistics(network, device)
    network.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    order = BatchOrder(indices.stores(), config.batch_size, seed=config.seed, rank=rank(), processes=processes())
    steps = budget(epochs=config.epochs, steps=config.steps, batches=order.batches_per_epoch, least=LEAST_STEPS)
    recorded = recorded_run(config.out, resume=config.resume)
    slices = Slices([store], indices, labels=True)
    execution, why = choose_execution(
        _trial(network, lambda: slices.read(next(iter(order))).to(device), device),
        precision=config.precision,
        compile=config.compile,
        kernels=config.kernels,
        steps=0 if is_finished(config.out) else steps,
        device=device,
        recorded=recorded,
        deterministic=config.deterministic,
    )
    info = {
        "kind": "finetune",
        "settings": as_mapping(config),
        "backbone": backbone,
        "init": start_info,
        "steps": steps,
        **execution.record(),
        **surroundings(deterministic=config.deterministic),
        "store": str(store.path),
        "store_digest": store.digest,
        "recipe": store.recipe,
        "class_names": list(store.class_names),
    }
    start_run(config.out, info, recorded, defaults(FinetuneConfig))
    if is_finished(config.out):
        tell(f"{config.out}: finished already")
        return config.out
    if is_first():
        write_split(config.out / "split.json", split)
    tell(
        f"{len(split.train)} patients, {len(indices)} slices, "
        f"{steps} steps ({steps / order.batches_per_epoch:.0f} epochs), "
        f"{device}, {execution} ({why}); {start_info['report']}"
    )
    _train(config, network, slices, order, steps=steps, device=device, execution=execution)
    return config.out


def _train(
    config: FinetuneConfig,
    network: nn.Module,
    slices: Slices,
    order: BatchOrder,
    *,
    steps: int,
    device: torch.device,
    execution: Execution,
) -> None:
    optimizer = adam(network.parameters())
    generator = own_generator(config.seed)
    checkpointer = Checkpointer(config.out, network, optimizer, generator, minutes=config.checkpoint_minutes)
    start = order.start = checkpointer.restore()
    batches = load_batches(slices, order, workers=config.workers, pinned=device.type == "cuda")
    ranges = AffineRanges(rotation=config.rotation, scale=config.scale, translation=config.translation)
    run_as(network, execution)
    network.train()
    with (
        run_log(config.out, "fine-tune", steps=steps, start=start, batch_size=config.batch_size * processes()) as log,
        StopRequest() as stop,
    ):
        for step in range(start, steps):
            learning_rate = cosine(step, steps, peak=config.learning_rate, final=config.learning_rate / 100)
            set_learning_rate(optimizer, learning_rate)
            batch = disturb_labels(next(batches), config.label_noise, config.seed).to(device)
            assert batch.labels is not None
            matrices = random_affine(len(batch.images), ranges, generator=generator, device=device)
            loss = _loss(network, *warp_with_labels(batch.images, batch.labels, matrices), execution.precision)
            optimizer.zero_grad()
            loss.backward()
            average_gradients(network.parameters())
            optimizer.step()
            log.add({"loss": loss, "learning_rate": learning_rate})
            save_or_stop(checkpointer, stop, step + 1)
    save_model(config.out, network)


def _loss(network: nn.Module, images: Tensor, labels: Tensor, precision: torch.dtype) -> Tensor:
    """Cross-entropy, the mean over pixels (paper, section 4.1)."""
    with autocast(images.device, precision):
        logits = network(images.contiguous(memory_format=torch.channels_last))
    # pixels as rows: the same sum, and unlike that over images it has a deterministic form on GPUs
    return F.cross_entropy(logits.float().permute(0, 2, 3, 1).flatten(0, 2), labels.flatten())


def _trial(
    network: nn.Module, read: Callable[[], SliceBatch], device: torch.device
) -> Callable[[Execution], Callable[[], None]]:
    """Steps on a copy of the network, to measure how long they take."""

    def make(execution: Execution) -> Callable[[], None]:
        own = copy.deepcopy(network).train()
        run_as(own, execution)
        batch = read()
        assert batch.labels is not None
        labels = batch.labels

        def step() -> None:
            own.zero_grad()
            _loss(own, batch.images, labels, execution.precision).backward()

        return step

    return make


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
    name: str = given.get("name") or config.backbone or "unet"
    return {
        "name": name,
        "in_channels": store.channels,
        "classes": len(store.class_names) + 1,
        "width": given.get("width") or config.width or backbones.own_width(name),
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
