"""Tasks in processes of this machine, each with its share of the cores, or a GPU of its own."""

import multiprocessing
import os
import signal
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from jcl.benchmark.perform import Outcome, ask_to_stop, perform
from jcl.benchmark.plan import StoreInfo, Task
from jcl.orphans import end_with_parent

__all__ = ["Workers"]


class Workers:
    """A pool of one process for each slot, so that a process that dies takes only its own task along."""

    def __init__(self, out: Path, stores: dict[str, StoreInfo], *, count: int, threads: int, gpus: int = 0) -> None:
        self.out, self.stores, self.slots = out, stores, count
        self.threads, self.gpus = threads, gpus
        self.pools: list[ProcessPoolExecutor | None] = [None] * count
        self.running: dict[Future[Outcome], tuple[int, Task]] = {}

    def start(self, task: Task, attempt: int) -> None:
        """Give a task to a free slot."""
        taken = {slot for slot, _ in self.running.values()}
        slot = next(number for number in range(self.slots) if number not in taken)
        if self.pools[slot] is None:
            self.pools[slot] = self._pool(slot)
        pool = self.pools[slot]
        assert pool is not None
        self.running[pool.submit(perform, self.out, task, self.stores, attempt)] = slot, task

    def wait(self, seconds: float) -> list[tuple[Task, Outcome]]:
        """The tasks that have ended, after `seconds` at most."""
        ended: list[tuple[Task, Outcome]] = []
        for future in wait(self.running, timeout=seconds, return_when=FIRST_COMPLETED).done:
            slot, task = self.running.pop(future)
            try:
                ended.append((task, future.result()))
            except BrokenProcessPool:
                self.pools[slot] = None
                ended.append((task, Outcome("lost", "the process that ran it died; memory may have run out")))
        return ended

    def stop(self) -> None:
        """Ask the running tasks to save and end."""
        for slot, _ in self.running.values():
            pool = self.pools[slot]
            for process_id in list(pool._processes) if pool else []:  # pyright: ignore[reportPrivateUsage]
                ask_to_stop(process_id)

    def close(self) -> None:
        """End the processes."""
        for pool in self.pools:
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)

    def _pool(self, slot: int) -> ProcessPoolExecutor:
        gpu = slot % self.gpus if self.gpus else None
        return ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(self.threads, gpu)
        )


def _begin(threads: int, gpu: int | None) -> None:
    """Before PyTorch is imported: its threads, its GPU; and who may stop it."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C in a terminal reaches the benchmark alone, which passes it on
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if gpu is not None:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = seen[gpu] if gpu < len(seen) and seen[gpu] else str(gpu)
    end_with_parent()
    import torch

    torch.set_num_threads(threads)
