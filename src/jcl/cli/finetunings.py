"""The demo's fine-tunings, as many at a time as there are cores: batches so small leave a second core idle."""

import contextlib
import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from jcl.config import EvaluateConfig, FinetuneConfig
from jcl.errors import Interrupted, JclError
from jcl.parallel.machine import cores
from jcl.parallel.pool import GRACE_SECONDS, Lost, ProcessPool
from jcl.parallel.progress import ProgressBar
from jcl.signals import StopRequest

__all__ = ["FineTuning", "finetune_all"]

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class FineTuning:
    """The settings of a fine-tuning, with a number of steps, and the file that its scores go to."""

    settings: FinetuneConfig
    results: Path

    @property
    def steps(self) -> int:
        """Of all that there are."""
        return self.settings.steps or 0

    def done(self) -> int:
        """Steps that are done, as its log has them."""
        if self.results.is_file():
            return self.steps
        with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
            return int(json.loads((self.settings.out / "log.jsonl").read_text().splitlines()[-1])["step"])
        return 0


def finetune_all(tunings: Sequence[FineTuning]) -> None:
    """Fine-tune and evaluate what is not done, each in a process with one thread.

    Raises:
        Interrupted: a signal asked to stop; what was begun is saved.
        JclError: whatever one of them raises; or its process died.
    """
    waiting = [each for each in tunings if not each.results.is_file()]
    if not waiting:
        return
    begun, limit = list(waiting), float("inf")
    setups = [_set_up] * min(cores(), len(waiting))
    total, done = sum(each.steps for each in begun), sum(each.done() for each in begun)
    with (
        closing(ProcessPool(setups, ["jcl.stages.finetune", "jcl.stages.evaluate"])) as pool,
        ProgressBar("fine-tune", total=total, done=done, count="step {done} of {total}") as bar,
        StopRequest() as stop,
    ):
        while (waiting and not stop.asked) or (pool.running and time.monotonic() < limit):
            while waiting and not stop.asked and len(pool.running) < pool.slots:
                each = waiting.pop(0)
                pool.start(each, _finetune, each)
            if stop.asked and limit == float("inf"):
                pool.stop()
                limit = time.monotonic() + GRACE_SECONDS
            for each, future in pool.wait(POLL_SECONDS):
                try:
                    future.result()
                except Interrupted:
                    stop.asked = True
                except Lost as error:
                    if stop.asked:  # before it had anything to save
                        continue
                    raise JclError(f"{each.settings.out}: {error}; the same command goes on") from error
            bar.update(sum(each.done() for each in begun))
    if stop.asked and not all(each.results.is_file() for each in begun):
        raise Interrupted("stopped and saved; the same command goes on")


def _set_up() -> None:
    import torch

    torch.set_num_threads(1)


def _finetune(each: FineTuning) -> None:
    """In a process of its own. What it prints is kept, since several would print at once."""
    from jcl.stages.evaluate import evaluate  # not above: the command's own process needs neither
    from jcl.stages.finetune import finetune

    out = each.settings.out.with_name(f"{each.settings.out.name}.txt")
    with out.open("a", encoding="utf-8") as file, contextlib.redirect_stderr(file), contextlib.redirect_stdout(file):
        finetune(each.settings)
        evaluate(EvaluateConfig(run=each.settings.out, out=each.results))
