"""Jobs: one queue of bounded length, from which one is taken at a time; each is known until it is forgotten."""

import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from jcl.serve.refusal import Refusal
from jcl.serve.segmenting import Segmented, Task, read_share

__all__ = ["Job", "Jobs", "State"]

MOST_DONE = 64
"""Jobs that are done and not forgotten; of more the one that nobody asked for the longest is."""

RETRY_SECONDS = 10


class State(StrEnum):
    """What becomes of a job, in this order."""

    RECEIVING = "receiving"
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


AHEAD = (State.RECEIVING, State.WAITING)
"""States of jobs that take a place in the queue."""

OVER = (State.DONE, State.FAILED, State.CANCELLED)


@dataclass
class Job:
    """A scan that was sent.

    Attributes:
        id: nobody can guess it.
        name: of the case.
        suffix: of the upload.
        folder: private; all that belongs to the job lies there.
        hold: whether it stays when its result was fetched, as a page wants it.
        error: why it failed, in one line.
        touched: when it was last asked for.
        cancelled: whether nobody wants it any more.
    """

    id: str
    name: str
    suffix: str
    folder: Path
    hold: bool
    state: State = State.RECEIVING
    error: str = ""
    result: Segmented | None = None
    source: Path | None = None
    touched: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    corrected: bool = False

    @property
    def upload(self) -> Path:
        """The file that was sent."""
        return self.folder / "upload" / f"{self.name}{self.suffix}"

    @property
    def task(self) -> Task:
        """What the process that segments is given."""
        return Task(self.source or self.upload, self.folder / "result", self.hold)

    @property
    def share(self) -> float:
        """The share of the work that is done, 0 to 1."""
        if self.state is State.RUNNING:
            return read_share(self.task)
        return float(self.state is State.DONE)


class Jobs:
    """All jobs of a server; every method may be called from any thread.

    Args:
        room: folder that theirs are made in.
        most: jobs that may wait, those that are being received among them.
        forget_seconds: after which one that is done, and that nobody asks for, is forgotten.
        now: the clock.
    """

    def __init__(
        self, room: Path, *, most: int, forget_seconds: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.room, self.most, self.forget_seconds, self.now = room, most, forget_seconds, now
        self.jobs: dict[str, Job] = {}
        self.changed = threading.Condition()

    def open(self, name: str, suffix: str, *, hold: bool) -> Job:
        """A place in the queue for a scan that is about to be received.

        Raises:
            Refusal: there is none.
        """
        with self.changed:
            if sum(job.state in AHEAD for job in self.jobs.values()) >= self.most:
                raise Refusal(
                    503, f"{self.most} scans wait already; try again later", {"Retry-After": str(RETRY_SECONDS)}
                )
            number = secrets.token_urlsafe(16)
            job = Job(number, name, suffix, self.room / f"job-{number}", hold, touched=self.now())
            for folder in (job.folder, job.upload.parent, job.task.folder):
                folder.mkdir()
            self.jobs[number] = job
            return job

    def submit(self, job: Job) -> None:
        """It is received, and waits."""
        with self.changed:
            if job.state is State.RECEIVING:
                job.state, job.touched = State.WAITING, self.now()
            self.changed.notify_all()

    def take(self, seconds: float) -> Job | None:
        """The next one to be segmented, after `seconds` at most; None if there is none."""
        with self.changed:
            self.changed.wait_for(lambda: self._next() is not None, seconds)
            if job := self._next():
                job.state = State.RUNNING
            return job

    def _next(self) -> Job | None:
        return next((job for job in self.jobs.values() if job.state is State.WAITING), None)

    def end(self, job: Job, result: Segmented | None, error: str = "") -> None:
        """It is done, or has failed; of one that failed or that nobody wants no file stays."""
        with self.changed:
            state = State.DONE if result else State.FAILED
            job.state = State.CANCELLED if job.cancelled else state
            job.result, job.error, job.touched = result, error, self.now()
        if job.state is not State.DONE:
            shutil.rmtree(job.folder, ignore_errors=True)

    def get(self, number: str) -> Job:
        """A job, which is remembered for a while from now on.

        Raises:
            Refusal: there is none of this name.
        """
        with self.changed:
            job = self.jobs.get(number)
            if job is None:
                raise Refusal(404, "no such scan here: it was removed, or never sent")
            job.touched = self.now()
            return job

    def position(self, job: Job) -> int:
        """How many are segmented before it, 0 for the one that is being segmented."""
        with self.changed:
            ahead = 0
            for each in self.jobs.values():
                if each is job:
                    break
                ahead += each.state in (State.WAITING, State.RUNNING)
            return ahead if job.state in AHEAD else 0

    def remove(self, job: Job) -> None:
        """Forget a job with its files; one that is being segmented is ended first, by whoever does that."""
        with self.changed:
            job.cancelled = True
            if job.state is State.RUNNING:
                return
            job.state = State.CANCELLED
            self.jobs.pop(job.id, None)
        shutil.rmtree(job.folder, ignore_errors=True)

    def forget(self) -> None:
        """Remove those that are over and that nobody asks for, and those that nobody wanted any more."""
        with self.changed:
            over = sorted((job for job in self.jobs.values() if job.state in OVER), key=lambda job: job.touched)
            late = [job for job in over if self.now() - job.touched > self.forget_seconds]
            gone = {job.id: job for job in (*late, *over[: max(0, len(over) - MOST_DONE)])}
        for job in gone.values():
            self.remove(job)
