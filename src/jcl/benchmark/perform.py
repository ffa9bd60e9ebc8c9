"""One task from beginning to end, in whatever process or on whatever machine sees the benchmark's folder."""

import contextlib
import platform
import shutil
import time
import traceback
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from jcl import config
from jcl.benchmark.folder import DONE, FAILED, LOCK, LOG, RESULTS, RUN, TASK, task_folder
from jcl.benchmark.plan import StoreInfo, Task
from jcl.errors import Interrupted, JclError, UsageError
from jcl.files import clear_left, write_json
from jcl.locks import forget_holder
from jcl.settings import load

__all__ = ["Outcome", "note_failure", "run_task"]

LEFTOVERS = ("checkpoints", "tensorboard")
"""What of a run folder is cleared when its task is done; `log.jsonl` has the curves."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    `done`; `failed` with the error; `busy`: another process works on it; `lost`: the process died; `interrupted`: it
    was asked to stop, and goes on from its checkpoint next time. With `final`, another attempt would fail likewise.
    """

    status: str
    error: str | None = None
    seconds: float = 0.0
    final: bool = False


def run_task(out: Path, task: Task, stores: dict[str, StoreInfo], attempt: int) -> Outcome:
    """Do a task, unless it is done or another process is at it; nothing is raised.

    Only one process can hold a task's lock, also over a network file system that has locks, so any number of
    benchmarks may run on one folder. A killed process loses its lock.
    """
    folder = task_folder(out, task.id)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0):
            if (folder / DONE).is_file():
                return Outcome("done")
            for place in (folder, folder / RUN):
                clear_left(place)
            forget_holder(folder / RUN)  # a machine that had the task and is gone
            return _attempt(out, task, stores, attempt)
    except Timeout:
        return Outcome("busy")


def note_failure(out: Path, task: Task, attempt: int, outcome: Outcome, seconds: float) -> Outcome:
    """Write down for a process that is gone how its attempt ended, which is returned: `done` if it got so far."""
    folder = task_folder(out, task.id)
    with contextlib.suppress(Timeout, OSError, JclError):  # another has the task by now; or a full disk
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK, timeout=0):
            if (folder / DONE).is_file():
                return Outcome("done", seconds=seconds)
            with (folder / LOG).open("a", encoding="utf-8") as file:
                print(outcome.error, file=file)
            write_json(folder / FAILED, {**_record(task, attempt, seconds), "error": outcome.error}, seal=True)
    return outcome


def _attempt(out: Path, task: Task, stores: dict[str, StoreInfo], attempt: int) -> Outcome:
    folder = task_folder(out, task.id)
    begun, cpu = time.monotonic(), time.process_time()
    try:
        write_json(folder / TASK, task.as_mapping(), seal=True)
        with _printed_to(folder / LOG):
            _DO[task.kind](out, task, stores)
        seconds = time.monotonic() - begun
        _clear(folder)
        write_json(
            folder / DONE,
            {**_record(task, attempt, seconds), "cpu_seconds": round(time.process_time() - cpu, 3)},
            seal=True,
        )
        (folder / FAILED).unlink(missing_ok=True)
        return Outcome("done", seconds=seconds)
    except (Interrupted, KeyboardInterrupt):
        return Outcome("interrupted")
    except Exception as error:
        said = str(error) if isinstance(error, JclError) else f"{type(error).__name__}: {error}"
        record = {**_record(task, attempt, time.monotonic() - begun), "error": said}
        with contextlib.suppress(JclError):  # a full disk cannot take the record either
            write_json(folder / FAILED, {**record, "traceback": traceback.format_exc()}, seal=True)
        return Outcome("failed", said, final=isinstance(error, UsageError))


def _pretrain(out: Path, task: Task, stores: dict[str, StoreInfo]) -> None:
    from jcl.stages.pretrain import pretrain

    paths = [str(out / stores[name].path) for name in task.settings["stores"]]
    run = task_folder(out, task.id) / RUN
    settings = {**task.settings, "stores": paths, "out": run, "resume": True}
    pretrain(load(config.PretrainConfig, None, settings))


def _finetune(out: Path, task: Task, stores: dict[str, StoreInfo]) -> None:
    from jcl.stages.evaluate import evaluate
    from jcl.stages.finetune import finetune

    folder = task_folder(out, task.id)
    settings = {key: value for key, value in task.settings.items() if key != "unit"}
    settings |= {
        "store": str(out / stores[task.settings["store"]].path),
        "init": str(task_folder(out, task.needs) / RUN) if task.needs else "none",
        "out": folder / RUN,
        "resume": True,
    }
    fine = load(config.FinetuneConfig, None, settings)
    finetune(fine)
    scored = {
        "run": folder / RUN,
        "out": folder / RESULTS,
        "unit": task.settings["unit"],
        "trust_code": fine.trust_code,
    }
    evaluate(load(config.EvaluateConfig, None, {**scored, "precision": fine.precision, "devices": _one(fine)}))


_DO = {"pretrain": _pretrain, "finetune": _finetune}


def _one(fine: config.FinetuneConfig) -> str:
    """The device that evaluates, which is one: `cpu:2` trains in two processes."""
    return "cpu" if fine.devices.startswith("cpu") else "auto"


def _clear(folder: Path) -> None:
    for name in LEFTOVERS:
        shutil.rmtree(folder / RUN / name, ignore_errors=True)


def _record(task: Task, attempt: int, seconds: float) -> dict[str, Any]:
    return {
        "id": task.id,
        "key": task.key,
        "code": task.code,
        "attempt": attempt,
        "seconds": round(seconds, 3),
        "host": platform.node(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@contextlib.contextmanager
def _printed_to(path: Path) -> Generator[None]:
    """All that is printed, and what is raised, goes to a file; what a library prints past Python's streams does not."""
    with path.open("a", encoding="utf-8") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        try:
            yield
        except Exception as error:
            if not isinstance(error, Interrupted):
                traceback.print_exc()
            raise
