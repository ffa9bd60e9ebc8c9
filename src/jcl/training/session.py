"""What pre-training and fine-tuning set up alike around their loops."""

import copy
import math
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from jcl.backbones import dimensions_of
from jcl.config import TrainingConfig
from jcl.data.batches import Dataset, SliceBatch, load_batches
from jcl.data.sampler import BatchSampler, Redraw
from jcl.data.splits import Split, write_split
from jcl.distributed.comm import is_main_process, rank, rank_generator, world_size
from jcl.distributed.device import channels_last, resolve_device
from jcl.distributed.device import peak_memory as device_memory
from jcl.distributed.sync_batch_norm import convert_sync_batchnorm
from jcl.errors import JclError
from jcl.parallel.allocator import keep_memory
from jcl.parallel.machine import peak_memory
from jcl.parallel.progress import Outlay
from jcl.settings import as_mapping, defaults
from jcl.signals import StopRequest
from jcl.training.autotune import Execution, apply_execution, choose_execution
from jcl.training.checkpoint import Checkpointer
from jcl.training.logger import RunLog, SilentLog, log_rank0, run_log
from jcl.training.optim import budget
from jcl.training.reproducibility import deterministic_algorithms
from jcl.training.run_folder import is_finished, recorded_run, save_model, save_or_stop, start_run, surroundings
from jcl.training.watching import Watch

__all__ = ["Loop", "Session", "seeded"]

Model = TypeVar("Model", bound=nn.Module)

TrialStep = Callable[[Model, SliceBatch, torch.dtype], Callable[[], Tensor]]
"""A function that computes the loss on a batch, for a copy of the model, in a precision."""


@contextmanager
def seeded(config: TrainingConfig) -> Generator[torch.device]:
    """Context of all that a process does for a training; yields its device.

    Raises:
        UsageError: no such device here.
    """
    keep_memory()
    with deterministic_algorithms(config.deterministic):
        device = resolve_device(config.devices)
        torch.manual_seed(config.seed)
        yield device


@dataclass
class Loop:
    """What the steps of a training need."""

    start: int
    batches: Iterator[SliceBatch]
    generator: torch.Generator
    log: RunLog | SilentLog
    checkpointer: Checkpointer
    stop: StopRequest

    def add(self, step: int, values: Mapping[str, Tensor | float]) -> dict[str, float] | None:
        """Log the values of step number `step`, counted from 1; see `RunLog.add`.

        Raises:
            JclError: the loss became NaN or infinite.
        """
        means = self.log.add(values)
        if means is not None and not math.isfinite(means["loss"]):
            raise JclError(f"step {step}: the loss is {means['loss']}; try a lower --learning-rate")
        return means

    def save_or_stop(self, step: int) -> None:
        """After step number `step`, counted from 1: see `jcl.training.run_folder.save_or_stop`."""
        save_or_stop(self.checkpointer, self.stop, step)


class Session(Generic[Model]):
    """A training between its settings and its last step.

    Args:
        config: settings.
        model: what is trained: a backbone, or a method or technique with one as its `backbone`.
        slices: what it is trained on, or blocks.
        device: see `seeded`; the model is brought there.
        least: default floor of the number of steps.
        accumulate: batches that make one step.
        recompute: see `jcl.training.activation_checkpointing`.
        redraw: see `jcl.data.sampler.BatchSampler`.

    Raises:
        UsageError: the number of steps makes no sense, or the run folder cannot be begun or gone on with.
    """

    def __init__(
        self,
        config: TrainingConfig,
        model: Model,
        slices: Dataset,
        device: torch.device,
        *,
        least: int,
        accumulate: int = 1,
        recompute: bool = False,
        redraw: Redraw | None = None,
    ) -> None:
        self.config, self.model, self.slices, self.device = config, model, slices, device
        self.accumulate, self.recompute = accumulate, recompute
        convert_sync_batchnorm(model, device)
        layout = channels_last(dimensions_of(cast("nn.Module", getattr(model, "backbone", model))))
        model.to(device, memory_format=layout)  # pyright: ignore[reportCallIssue]
        self.order = BatchSampler(
            slices.store_numbers(),
            config.batch_size,
            seed=config.seed,
            rank=rank(),
            processes=world_size(),
            redraw=redraw,
        )
        self.steps_per_epoch = max(1, self.order.batches_per_epoch // accumulate)
        self.steps = budget(epochs=config.epochs, steps=config.steps, batches=self.steps_per_epoch, least=least)
        self.recorded = recorded_run(config.out, resume=config.resume)
        self.finished = is_finished(config.out)

    def begin(
        self,
        trial: TrialStep[Model],
        info: Mapping[str, Any],
        split: Split | None,
        title: str,
        *,
        before: Mapping[str, Any] | None = None,
        method: Mapping[str, Any] | None = None,
    ) -> bool:
        """Choose how the steps are computed, write `run.json` and the split, and say what is begun.

        False where the run has its final weights already.

        Args:
            trial: what a step computes, to measure how long it takes.
            info: of `run.json`, what this kind of training alone has.
            split: patients used and held back.
            title: what is trained and on what.
            before: settings that held where the run that goes on recorded none (else today's defaults).
            method: the same for the settings of the method, see `jcl.methods._earlier`.

        Raises:
            UsageError: execution as asked for cannot be had here, or the run that goes on has other settings or data.
        """
        config = self.config
        self.execution, why = choose_execution(
            lambda execution: self._trial_step(trial, execution),
            precision=config.precision,
            compile=config.compile,
            kernels=config.kernels,
            steps=0 if self.finished else self.steps,
            device=self.device,
            recorded=self.recorded,
            deterministic=config.deterministic,
        )
        computed = {**self.execution.record(), **surroundings(deterministic=config.deterministic)}
        info = {"settings": as_mapping(config), **info, "steps": self.steps, **computed}
        unsaid = {"settings": defaults(type(config)) if before is None else before, "method": dict(method or {})}
        start_run(config.out, info, self.recorded, unsaid)
        if self.finished:
            log_rank0(f"{config.out}: finished already")
            return False
        if split is not None and is_main_process():
            write_split(config.out / "split.json", split)
        epochs = self.steps / self.steps_per_epoch
        log_rank0(f"{title}, {self.steps} steps ({epochs:.0f} epochs), {self.device}, {self.execution} ({why})")
        return True

    @contextmanager
    def loop(
        self, title: str, optimizer: torch.optim.Optimizer, kept: nn.Module | None = None, *, averaged: bool = False
    ) -> Generator[Loop]:
        """Context of the steps: from the newest checkpoint on if there is one; behind it the result is saved.

        Args:
            title: of the progress bar.
            optimizer: of the model.
            kept: what is saved as the result (None: the model).
            averaged: whether that is an average over the steps, which checkpoints have beside the model.
        """
        config = self.config
        generator = rank_generator(config.seed)
        checkpointer = Checkpointer(
            *(config.out, self.model, optimizer, generator),
            minutes=config.checkpoint_minutes,
            average=kept if averaged else None,
        )
        start = checkpointer.restore()
        self.order.start = start * self.accumulate
        batches = load_batches(self.slices, self.order, workers=config.workers, pinned=self.device.type == "cuda")
        self._apply(self.execution, self.model)
        self.model.train()
        size = config.batch_size * self.accumulate * world_size()
        outlay = Outlay("steps", config.out, lambda share, seconds: checkpointer.foreseen_bytes(seconds), self._memory)
        with (
            run_log(
                *(config.out, title),
                steps=self.steps,
                start=start,
                batch_size=size,
                outlay=outlay,
                trackers=config.tracker,
            ) as log,
            StopRequest() as stop,
        ):
            yield Loop(start, batches, generator, log, checkpointer, stop)
        save_model(config.out, self.model if kept is None else kept)

    def watch(self, batch: SliceBatch | None, context: int) -> Watch | None:
        """What draws pictures of watched slices (with so many neighbours on each side); None where there are none."""
        if batch is None:
            return None
        every, precision = self.config.watch_every, self.execution.precision
        return Watch(batch, every=every, steps=self.steps, device=self.device, precision=precision, context=context)

    def _trial_step(self, trial: TrialStep[Model], execution: Execution) -> Callable[[], None]:
        """A step on a copy of the model, to measure how long it takes."""
        own = copy.deepcopy(self.model).train()
        self._apply(execution, own)
        loss = trial(own, self.slices.read(next(iter(self.order))).to(self.device), execution.precision)

        def step() -> None:
            own.zero_grad()
            loss().backward()

        return step

    def _memory(self) -> int | None:
        """Bytes taken at most so far: the device's own where it has some, which is scarcer."""
        return device_memory(self.device) or peak_memory()

    def _apply(self, execution: Execution, model: nn.Module) -> None:
        backbone = cast("nn.Module", getattr(model, "backbone", model))
        apply_execution(backbone, execution, method=model, recompute=self.recompute)
