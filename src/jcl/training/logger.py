"""What a training reports while it runs: a progress bar, a JSON-lines file, TensorBoard and other trackers."""

import contextlib
import errno
import json
import os
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from jcl.distributed.comm import is_main_process
from jcl.errors import Interrupted, JclError
from jcl.files import WriteError, write_atomically, write_json
from jcl.parallel.progress import Outlay, ProgressBar
from jcl.text import printable
from jcl.training.pictures import tiled
from jcl.training.trackers.chosen import open_trackers
from jcl.training.trackers.postbox import Postbox
from jcl.training.trackers.tensorboard import TensorBoard
from jcl.training.trackers.tracker import Tracker

COST = "cost.json"
"""What the training was expected to take when some seconds of it had gone by: seconds, and bytes of memory and disk."""

EVERY = 10
"""Steps between two lines of the log; their values are means over the steps since the last line."""


def log_rank0(line: str) -> None:
    """One line to the user; of several processes only the first speaks."""
    if is_main_process():
        print(printable(line), file=sys.stderr, flush=True)


def run_log(
    run: Path,
    title: str,
    *,
    steps: int,
    start: int,
    batch_size: int,
    outlay: Outlay | None = None,
    trackers: Sequence[str] = (),
) -> "RunLog | SilentLog":
    """The log of a training: a `RunLog` in the first process, none in the others.

    Raises:
        UsageError: one of the trackers' servers cannot be reached.
    """
    if not is_main_process():
        return SilentLog()
    opened = open_trackers(trackers, run)
    return RunLog(run, title, steps=steps, start=start, batch_size=batch_size, outlay=outlay, trackers=opened)


class SilentLog:
    """The log of a process that leaves telling to the first."""

    def __enter__(self) -> "SilentLog":
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is open."""

    def add(self, values: Mapping[str, Tensor | float]) -> None:
        """Nothing is kept."""

    def pictures(self, name: str, images: Float[Tensor, "b c h w"], *, most: int = 16) -> None:
        """Nothing is shown."""

    def picture(self, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Nothing is shown."""


class RunLog:
    """Log of one training, as a context.

    Values are kept as tensors and read only every `EVERY` steps, so that a GPU is not waited for at each.

    Args:
        run: the run folder.
        title: of the progress bar.
        steps: of the whole training.
        start: steps that were done before.
        batch_size: slices of a step.
        outlay: see `ProgressBar`.
        trackers: other programs that get the same, by their names.
    """

    def __init__(
        self,
        run: Path,
        title: str,
        *,
        steps: int,
        start: int,
        batch_size: int,
        outlay: Outlay | None = None,
        trackers: Mapping[str, Postbox] | None = None,
    ) -> None:
        self.run, self.path = run, run / "log.jsonl"
        self.steps, self.step, self.batch_size = steps, start, batch_size
        # the first step builds what the others use
        self.bar = ProgressBar(
            title, total=steps, done=start, count="step {done}/{total}", end=True, warm=1, outlay=outlay
        )
        self.told = False
        self.posted = dict(trackers or {})
        self.trackers: list[Tracker] = list(self.posted.values())
        with self._losing_nothing():
            _drop_lines_after(self.path, start)
        with self._losing_nothing():
            self.trackers.append(TensorBoard(run, start))
        self.foreseen = False
        self.kept: list[Mapping[str, Tensor | float]] = []
        self.since = time.monotonic()

    def __enter__(self) -> "RunLog":
        self.bar.__enter__()
        self.hook, threading.excepthook = threading.excepthook, self._of_a_thread
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
        self.bar.__exit__(kind, error, trace)
        for tracker in self.trackers:
            with self._losing_nothing():
                tracker.close(_outcome(error))
        self._tell_of_trackers()
        threading.excepthook = self.hook

    def _of_a_thread(self, ended: threading.ExceptHookArgs) -> None:
        """A full disk ends the thread in which TensorBoard writes; what we give it next raises the same error here."""
        if not (isinstance(ended.exc_value, OSError) and type(ended.thread).__module__.startswith("tensorboard.")):
            self.hook(ended)

    def add(self, values: Mapping[str, Tensor | float]) -> dict[str, float] | None:
        """Values of one step; every `EVERY` steps the means since the last time are logged and returned."""
        self.kept.append({name: v.detach() if isinstance(v, Tensor) else v for name, v in values.items()})
        self.step += 1
        means = self.flush() if self.step % EVERY == 0 or self.step == self.steps else None
        note = f"loss {means['loss']:.3f}  {means['slices_per_second']:.0f} slices/s" if means else ""
        self.bar.update(self.step, note)
        if self.bar.cost and not self.foreseen:
            self.foreseen = True
            with contextlib.suppress(JclError):  # a full disk is for the checkpoints to find
                write_json(self.run / COST, asdict(self.bar.cost))
        return means

    def pictures(self, name: str, images: Float[Tensor, "b c h w"], *, most: int = 16) -> None:
        """Show the first channel of up to `most` images in the trackers: what the network really sees."""
        self.picture(name, tiled(images[:most, 0].detach().float().cpu().numpy()))

    def picture(self, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Show a picture in the trackers."""
        for tracker in self.trackers:
            with self._losing_nothing():
                tracker.picture(name, image, self.step)

    def flush(self) -> dict[str, float] | None:
        """Write what has been kept since the last line."""
        if not self.kept:
            return None
        means: dict[str, float] = {}
        for name in dict.fromkeys(name for values in self.kept for name in values):
            # steps of another phase of the training may have other losses
            found = [float(values[name]) for values in self.kept if name in values]
            means[name] = sum(found) / len(found)
        now = time.monotonic()
        means["slices_per_second"] = len(self.kept) * self.batch_size / max(now - self.since, 1e-9)
        self.since = now
        self.kept.clear()
        line = json.dumps({"step": self.step, **{k: _significant(v) for k, v in means.items()}}) + "\n"
        with self._losing_nothing():
            _append(self.path, line.encode())
        for tracker in self.trackers:
            with self._losing_nothing():
                tracker.scalars(means, self.step)
        self._tell_of_trackers()
        return means

    def _tell_of_trackers(self) -> None:
        """One line for each tracker that failed, the first time."""
        for name, tracker in list(self.posted.items()):
            if tracker.trouble:
                del self.posted[name]
                gone = f"{self.run}: {name} does not get all of it from here on ({tracker.trouble})"
                self.bar.say(f"warning: {gone}; {self.path.name} has it, and the training goes on")

    @contextlib.contextmanager
    def _losing_nothing(self) -> Generator[None]:
        """Context of what may fail, as on a full disk, and is not worth a training: one line the first time."""
        try:
            yield
        except (OSError, WriteError) as error:
            if not self.told:
                self.told = True
                said = error.strerror if isinstance(error, OSError) else str(error)
                self.bar.say(f"warning: {self.run}: its log has gaps from here on ({said}); the training goes on")


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "finished"
    return "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"


def _drop_lines_after(path: Path, step: int) -> None:
    """A resumed run starts at its checkpoint: what was logged after it will be logged again."""
    if not path.exists():
        return
    kept: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry: dict[str, Any] = json.loads(line)
        except (ValueError, RecursionError):
            break  # the line that a kill cut short
        if entry["step"] <= step:
            kept.append(line + "\n")
    write_atomically(path, "".join(kept).encode())


def _append(path: Path, line: bytes) -> None:
    """The whole line or nothing of it."""
    with path.open("ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(end)
            raise


def _significant(value: float) -> float | None:
    return float(f"{value:.6g}") if value == value and abs(value) != float("inf") else None
