"""A thread between a training and a tracker on the network, so that the training never waits for it."""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from queue import Full, Queue

import numpy as np
from jaxtyping import UInt8

from jcl.training.trackers.tracker import Tracker

__all__ = ["Postbox"]

MOST = 200
"""Values and pictures that wait at most; what comes while so many wait is left out."""

LAST_SECONDS, GONE_SECONDS = 30.0, 5.0
"""How long the end of a training waits for the rest to be sent; less where the tracker has failed before."""


class Postbox:
    """A tracker that is served by a thread; nothing raises here, and nothing waits but `close`, for some seconds.

    Attributes:
        trouble: why the tracker did not get everything, as the first failure said; None while it did.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.trouble: str | None = None
        self._waiting: Queue[Callable[[], None] | None] = Queue(MOST)
        self._thread = threading.Thread(target=self._serve, name="jcl-tracker", daemon=True)
        self._thread.start()

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Hand over values."""
        self._post(partial(self.tracker.scalars, dict(values), step))

    def picture(self, name: str, image: UInt8[np.ndarray, "h w 3"], step: int) -> None:
        """Hand over a picture."""
        self._post(partial(self.tracker.picture, name, image, step))

    def close(self, outcome: str) -> None:
        """Hand over how it ended, and wait until all is sent, but not for long."""
        end = time.monotonic() + (GONE_SECONDS if self.trouble else LAST_SECONDS)
        with contextlib.suppress(Full):
            for job in (partial(self.tracker.close, outcome), None):
                self._waiting.put(job, timeout=max(0.0, end - time.monotonic()))
        self._thread.join(max(0.0, end - time.monotonic()))
        if self._thread.is_alive():
            self._note("it did not take all of it in time")

    def _post(self, job: Callable[[], None]) -> None:
        try:
            self._waiting.put_nowait(job)
        except Full:
            self._note("it does not keep up")

    def _serve(self) -> None:
        while (job := self._waiting.get()) is not None:
            try:
                job()
            except Exception as error:  # whatever it raises: a server that comes back gets what follows
                self._note(" ".join(str(error).split())[-150:] or type(error).__name__)

    def _note(self, trouble: str) -> None:
        self.trouble = self.trouble or trouble
