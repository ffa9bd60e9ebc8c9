"""What a training tells while it runs: a progress bar, a JSON-lines file and TensorBoard."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.utils.tensorboard.writer import SummaryWriter

from jcl.checkpoint import write_atomically
from jcl.distributed import is_first
from jcl.progress import progress_bar

EVERY = 10
"""Steps between two lines of the log; their values are means over the steps since the last line."""

PLAIN_SECONDS = 30.0
"""Seconds between two lines of progress where there is no terminal to draw a bar on."""


def tell(line: str) -> None:
    """One line to the user; of several processes only the first speaks."""
    if is_first():
        print(line, file=sys.stderr, flush=True)


def run_log(run: Path, title: str, *, steps: int, start: int, batch_size: int) -> "RunLog | SilentLog":
    """The log of a training: a `RunLog` in the first process, none in the others."""
    if not is_first():
        return SilentLog()
    return RunLog(run, title, steps=steps, start=start, batch_size=batch_size)


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


class RunLog:
    """Log of one training, as a context.

    Values are kept as tensors and read only every `EVERY` steps, so that a GPU is not waited for at each.
    """

    def __init__(self, run: Path, title: str, *, steps: int, start: int, batch_size: int) -> None:
        self.path = run / "log.jsonl"
        self.title, self.steps, self.step, self.batch_size = title, steps, start, batch_size
        _drop_lines_after(self.path, start)
        self.file = self.path.open("a", encoding="utf-8")
        self.board = SummaryWriter(str(run / "tensorboard"), purge_step=start or None)
        self.bar = progress_bar(title)
        self.task = self.bar.add_task(title, total=steps, completed=start, note="")
        self.kept: list[Mapping[str, Tensor | float]] = []
        self.since = self.begun = self.told = time.monotonic()
        self.start = start

    def __enter__(self) -> "RunLog":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
        self.bar.stop()
        self.file.close()
        self.board.close()

    def add(self, values: Mapping[str, Tensor | float]) -> dict[str, float] | None:
        """Values of one step; every `EVERY` steps the means since the last time are logged and returned."""
        self.kept.append({name: v.detach() if isinstance(v, Tensor) else v for name, v in values.items()})
        self.step += 1
        self.bar.advance(self.task)
        return self.flush() if self.step % EVERY == 0 or self.step == self.steps else None

    def pictures(self, name: str, images: Float[Tensor, "b c h w"], *, most: int = 16) -> None:
        """Show the first channel of up to `most` images in TensorBoard: what the network really sees."""
        shown = images[:most, :1].detach().float().cpu().clamp(0, 1)
        self.board.add_images(name, shown.numpy(), self.step)

    def flush(self) -> dict[str, float] | None:
        """Write what has been kept since the last line."""
        if not self.kept:
            return None
        means = {name: sum(float(values[name]) for values in self.kept) / len(self.kept) for name in self.kept[0]}
        now = time.monotonic()
        means["slices_per_second"] = len(self.kept) * self.batch_size / max(now - self.since, 1e-9)
        self.since = now
        self.kept.clear()
        self.file.write(json.dumps({"step": self.step, **{k: _significant(v) for k, v in means.items()}}) + "\n")
        self.file.flush()
        for name, value in means.items():
            self.board.add_scalar(name, value, self.step)
        self._tell(means, now)
        return means

    def _tell(self, means: Mapping[str, float], now: float) -> None:
        note = f"loss {means['loss']:.3f}  {means['slices_per_second']:.0f} slices/s"
        self.bar.update(self.task, note=note)
        if self.bar.disable and (now - self.told > PLAIN_SECONDS or self.step == self.steps):
            self.told = now
            left = (now - self.begun) / (self.step - self.start) * (self.steps - self.step)
            print(
                f"{self.title}: step {self.step}/{self.steps}, {note}, {left:.0f} s left", file=sys.stderr, flush=True
            )


def _drop_lines_after(path: Path, step: int) -> None:
    """A resumed run starts at its checkpoint: what was logged after it will be logged again."""
    if not path.exists():
        return
    kept: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry: dict[str, Any] = json.loads(line)
        except ValueError:
            break  # the line that a kill cut short
        if entry["step"] <= step:
            kept.append(line + "\n")
    write_atomically(path, "".join(kept).encode())


def _significant(value: float) -> float | None:
    return float(f"{value:.6g}") if value == value and abs(value) != float("inf") else None
