"""Tasks in this process, one at a time."""

from collections import deque
from pathlib import Path

from jcl.benchmark.perform import Outcome, perform
from jcl.benchmark.plan import StoreInfo, Task

__all__ = ["Here"]


class Here:
    """Does a task when it is waited for."""

    slots = 1

    def __init__(self, out: Path, stores: dict[str, StoreInfo]) -> None:
        self.out, self.stores = out, stores
        self.waiting: deque[tuple[Task, int]] = deque()

    def start(self, task: Task, attempt: int) -> None:
        """Take a task."""
        self.waiting.append((task, attempt))

    def wait(self, seconds: float) -> list[tuple[Task, Outcome]]:
        """Do what was taken, however long it takes."""
        done: list[tuple[Task, Outcome]] = []
        while self.waiting:
            task, attempt = self.waiting.popleft()
            done.append((task, perform(self.out, task, self.stores, attempt)))
        return done

    def stop(self) -> None:
        """Nothing runs when this can be called: a signal reaches the training itself."""

    def close(self) -> None:
        """Nothing is open."""
