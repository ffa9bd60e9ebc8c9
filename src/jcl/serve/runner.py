"""The one worker: takes scan after scan from the queue and has a process segment it, which can be ended at any time."""

import os
import sys
import threading
import traceback

from jcl.errors import JclError
from jcl.parallel.pool import Late, Lost, Pool
from jcl.serve.jobs import Job, Jobs
from jcl.serve.room import clear_scratch
from jcl.serve.segmenting import Segmented, segment
from jcl.text import printable

__all__ = ["Runner"]

LOOK_SECONDS = 0.2
"""Between two looks whether a job is to be ended."""


class Runner(threading.Thread):
    """A thread that works until `finish`.

    Args:
        jobs: where it takes scans from.
        pool: of one process; no other thread uses it while this one works.
    """

    def __init__(self, jobs: Jobs, pool: Pool) -> None:
        super().__init__(name="jcl-serve-runner", daemon=True)
        self.jobs, self.pool = jobs, pool
        self.ending = threading.Event()

    def run(self) -> None:
        """Take one scan after the other."""
        while not self.ending.is_set():
            self.jobs.forget()
            job = self.jobs.take(LOOK_SECONDS)
            if job is None:
                continue
            try:
                result, error = self._segment(job)
            except Exception as fault:  # the queue goes on
                traceback.print_exception(fault)
                result, error = None, "a fault of the server, which says more where it runs"
            self.jobs.end(job, result, error)

    def finish(self) -> None:
        """End what is being segmented, and the thread."""
        self.ending.set()
        self.join()

    def _segment(self, job: Job) -> tuple[Segmented | None, str]:
        """The result, or why there is none."""
        self.pool.start(job.id, segment, job.task)
        asked = False
        while not (ended := self.pool.wait(LOOK_SECONDS)):
            if (job.cancelled or self.ending.is_set()) and not asked:
                asked = True
                self.pool.stop()
        ((_, future),) = ended
        error = future.exception()
        if error is None:
            return future.result(), ""
        if isinstance(error, JclError):
            return None, without_folders(str(error), job)
        if isinstance(error, Late | Lost):
            clear_scratch(self.jobs.room)
            return None, f"{job.name}: {'cancelled' if asked else error}"
        print(printable(f"jcl: a scan could not be segmented: {error!r}"), file=sys.stderr, flush=True)
        for note in getattr(error, "__notes__", []):
            print(note, file=sys.stderr, flush=True)
        return None, "a fault of the server, which says more where it runs"


def without_folders(message: str, job: Job) -> str:
    """A message without the server's own folders, which are nobody's business."""
    for folder in (job.source or job.upload.parent, job.upload.parent, job.task.folder, job.folder):
        message = message.replace(f"{folder}{os.sep}", "").replace(str(folder), job.name)
    return printable(message)
