"""What all routes share: the settings, the jobs, what the run segments, and where kept cases go."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from jcl.config import ServeConfig
from jcl.serve.jobs import Jobs
from jcl.serve.segmenting import Classes
from jcl.serve.uploads import Limits

__all__ = ["Service", "make_service"]


@dataclass(frozen=True)
class Service:
    """A server's state.

    Attributes:
        title: the name of the run, as shown.
        keep: folder of kept cases, if any are.
        keeping: held by whoever writes there.
    """

    title: str
    classes: Classes
    jobs: Jobs
    limits: Limits
    room: Path
    keep: Path | None
    keeping: threading.Lock = field(default_factory=threading.Lock)


def make_service(config: ServeConfig, classes: Classes, room: Path) -> Service:
    """The state of a server that has just begun."""
    return Service(
        title=" + ".join(run.resolve().name for run in config.runs),
        classes=classes,
        jobs=Jobs(room, most=config.queue, forget_seconds=60 * config.forget_minutes),
        limits=Limits(1e6 * config.max_mb, 1e6 * config.max_unpacked_mb, 60 * config.upload_minutes),
        room=room,
        keep=config.keep,
    )
