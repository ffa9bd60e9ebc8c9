"""Where tasks are done: in this process, in processes of this machine, or on a Ray cluster."""

import math
import os
import time
from collections.abc import Generator
from concurrent.futures import CancelledError, Future
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from jcl.benchmark.folder import PLAN
from jcl.benchmark.perform import Outcome, note_failure, run_task
from jcl.benchmark.plan import StoreInfo, Task
from jcl.config import BenchmarkConfig
from jcl.errors import UsageError
from jcl.parallel.machine import cores
from jcl.parallel.pool import InProcessPool, Late, Lost, Pool, ProcessPool

__all__ = ["PoolExecutor", "pool_for"]


class PoolExecutor:
    """Tasks of the benchmark in the folder `out`, which is absolute, and seen at this place by all that work for it."""

    def __init__(self, pool: Pool, out: Path, stores: dict[str, StoreInfo]) -> None:
        self.pool, self.out, self.stores = pool, out, stores
        self.stopping = False

    @property
    def slots(self) -> int:
        """See `jcl.benchmark.schedule.Executor`, as for the others."""
        return self.pool.slots

    def start(self, task: Task, attempt: int) -> None:
        """Give a task to the pool."""
        self.pool.start((task, attempt, time.monotonic()), run_task, self.out, task, self.stores, attempt)

    def wait(self, seconds: float) -> list[tuple[Task, Outcome]]:
        """Those that have ended; how is written down here where the task's own process could not."""
        ended = self.pool.wait(seconds) if self.pool.running else []
        return [(task, self._outcome(future, task, attempt, begun)) for (task, attempt, begun), future in ended]

    def stop(self) -> None:
        """A signal reaches each training, which saves."""
        self.stopping = True
        self.pool.stop()

    def _outcome(self, future: "Future[Outcome]", task: Task, attempt: int, begun: float) -> Outcome:
        try:
            return future.result()
        except CancelledError:
            return Outcome("interrupted")
        except Exception as error:
            outcome, seconds = _without_an_answer(error), time.monotonic() - begun
        return outcome if self.stopping else note_failure(self.out, task, attempt, outcome, seconds)


def _without_an_answer(error: Exception) -> Outcome:
    if isinstance(error, Lost):
        return Outcome("lost", str(error))
    if isinstance(error, Late):
        said = f"{error} (--task-timeout) and was ended; with more time it goes on from its last checkpoint"
        return Outcome("failed", said, final=True)
    # not the task's: it did not come to begin
    return Outcome("failed", str(error) or type(error).__name__, final=isinstance(error, UsageError))


@contextmanager
def pool_for(config: BenchmarkConfig) -> Generator[Pool]:
    """The pool that the settings ask for.

    Raises:
        UsageError: settings that do not go together; no cluster, or one without a machine that has so many cores.
        JclError: a local cluster did not start.
    """
    threads = max(1, config.threads)
    if config.ray is not None:
        from jcl.parallel.ray import RayPool, joined

        if config.workers is not None and config.workers < 1:
            raise UsageError(f"--workers {config.workers} does not go with --ray; give 1 or more, or leave it out")
        with joined(config.ray) as ray:
            seen, setup = [config.out.absolute() / PLAN], partial(set_threads, threads)
            yield RayPool(ray, seen, setup, threads=threads, gpu=True, limit=config.workers)
    elif config.workers == 0:
        yield InProcessPool()
    else:
        gpus = _gpus()
        count = config.workers or gpus or max(1, cores() // threads)
        setups = [partial(_set_up_worker, threads, slot % gpus if gpus else None) for slot in range(count)]
        seconds = math.inf if config.task_timeout is None else 60 * config.task_timeout
        with closing(ProcessPool(setups, seconds=seconds)) as pool:
            yield pool


def _gpus() -> int:
    import torch

    from jcl.distributed.device import has_mps

    return torch.cuda.device_count() or int(has_mps())


def _set_up_worker(threads: int, gpu: int | None) -> None:
    """Its GPU, its threads."""
    if gpu is not None:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = seen[gpu] if gpu < len(seen) and seen[gpu] else str(gpu)
    set_threads(threads)


def set_threads(threads: int) -> None:
    """Those of each operation, and of the processes that a training starts."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before PyTorch is imported
    import torch

    torch.set_num_threads(threads)
