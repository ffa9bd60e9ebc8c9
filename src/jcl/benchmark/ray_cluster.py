"""Tasks on the machines of a Ray cluster, which all see the benchmark's folder."""

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from jcl.benchmark.folder import PLAN
from jcl.benchmark.perform import Outcome, perform
from jcl.benchmark.plan import StoreInfo, Task
from jcl.cluster import check_machine, joined, sources_digest
from jcl.errors import UsageError

__all__ = ["RayCluster"]


class RayCluster:
    """As many tasks at a time as the cluster has room for, a number that changes as machines come and go.

    A task asks for its threads in cores and, where the cluster has GPUs, for one of these. Ray repeats nothing: what is
    lost with its process or its machine is the scheduler's to give out again, and goes on from its checkpoint.

    Args:
        out: the benchmark's folder, absolute, and seen by all machines at this place.
        stores: the prepared stores.
        address: see `jcl.cluster.joined`.
        threads: of each task.
        limit: tasks at a time, at most.

    Raises:
        UsageError: no cluster, or one without a machine that has so many cores.
        JclError: a local cluster did not start.
    """

    def __init__(
        self, out: Path, stores: dict[str, StoreInfo], *, address: str, threads: int, limit: int | None = None
    ) -> None:
        self.out, self.stores, self.threads, self.limit = out, stores, threads, limit
        self.running: dict[Any, Task] = {}
        self.stopping = False
        self.cancelled: set[Any] = set()
        self.digest = sources_digest()
        with ExitStack() as stack:
            self.ray = stack.enter_context(joined(address))
            machines = self._machines()
            self.gpus = 1 if any(machine.get("GPU", 0) >= 1 for machine in machines) else 0
            if not self._room(machines):
                most = max((int(machine.get("CPU", 0)) for machine in machines), default=0)
                asked = f"{threads} cores" + (" and a GPU" if self.gpus else "")
                raise UsageError(f"no machine of the cluster has {asked} (at most {most} cores); take fewer --threads")
            self.open = stack.pop_all()
        self.slots = self._capacity()
        self.remote = self.ray.remote(num_cpus=threads, num_gpus=self.gpus, max_retries=0)(_perform_there)

    def start(self, task: Task, attempt: int) -> None:
        """Give a task to Ray, which finds a machine for it."""
        reference = self.remote.remote(self.out, task, self.stores, attempt, self.threads, self.digest)
        self.running[reference] = task

    def wait(self, seconds: float) -> list[tuple[Task, Outcome]]:
        """One that has ended, after `seconds` at most; those that are asked to stop are told so here."""
        if self.stopping:
            for reference in set(self.running) - self.cancelled:
                self.ray.cancel(reference)
                self.cancelled.add(reference)
        ended: list[tuple[Task, Outcome]] = []
        if self.running:
            ready, _ = self.ray.wait(list(self.running), timeout=seconds)
            ended = [(self.running.pop(reference), self._outcome(reference)) for reference in ready]
        self.slots = self._capacity()
        return ended

    def stop(self) -> None:
        """Ask the running tasks to save and end; `wait` tells them, and those that begin until then."""
        self.stopping = True

    def close(self) -> None:
        """Leave the cluster; a local one ends."""
        self.open.close()

    def _outcome(self, reference: Any) -> Outcome:
        exceptions = self.ray.exceptions
        try:
            outcome: Outcome = self.ray.get(reference)
            return outcome
        except exceptions.TaskCancelledError:
            return Outcome("interrupted")
        except exceptions.RayTaskError as error:
            return Outcome("failed", _one_line(error.cause), final=isinstance(error.cause, UsageError))
        except exceptions.RayError as error:
            return Outcome("lost", f"its process or its machine died ({_one_line(error)})")

    def _machines(self) -> list[dict[str, float]]:
        """What each machine of the cluster has, busy or not."""
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    def _room(self, machines: list[dict[str, float]]) -> int:
        """Tasks that fit on the machines."""
        rooms = (int(machine.get("CPU", 0)) // self.threads for machine in machines)
        if not self.gpus:
            return sum(rooms)
        return sum(min(room, int(m.get("GPU", 0))) for room, m in zip(rooms, machines, strict=True))

    def _capacity(self) -> int:
        """Never less than what runs; and at least one, which waits in Ray for a machine to come."""
        room = self._room(self._machines())
        return max(1, len(self.running), min(room, self.limit or room))


def _perform_there(
    out: Path, task: Task, stores: dict[str, StoreInfo], attempt: int, threads: int, digest: str
) -> Outcome:
    """What a worker process of Ray does: in its main thread, where `ray.cancel` calls the handler of SIGINT.

    That is how a training learns that it should save; outside of one it ends the task.
    """
    check_machine(digest, [out / PLAN])
    # Ray blocks it. A process that a training starts would inherit that, and not end with its parent: by this signal.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before PyTorch is imported
    import torch

    torch.set_num_threads(threads)
    return perform(out, task, stores, attempt)


def _one_line(error: BaseException) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) < 300 else f"{said[:300]} …"
