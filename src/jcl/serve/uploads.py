"""A scan comes in: to its folder in the room, unpacked if it is a zip, and into the queue."""

from dataclasses import dataclass

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from jcl.serve.body import drain, receive_file
from jcl.serve.claims import check_claim
from jcl.serve.jobs import Job, Jobs
from jcl.serve.names import ARCHIVE, split_name
from jcl.serve.refusal import Refusal
from jcl.serve.unpacking import unpack

__all__ = ["Limits", "receive_scan", "take_in"]

TOO_LATE = 408


@dataclass(frozen=True)
class Limits:
    """What an upload may be: bytes as it comes, bytes when it is unpacked, and seconds that it takes."""

    packed: float
    unpacked: float
    seconds: float


async def receive_scan(request: Request, jobs: Jobs, limits: Limits, name: str, *, hold: bool) -> Job:
    """Take a scan that is the body of a request into the queue.

    Raises:
        Refusal: it is not taken; nothing of it stays.
    """
    job = None
    try:
        stem, suffix = split_name(name)
        job = jobs.open(stem, suffix, hold=hold)
        await receive_file(request, job.upload, most=limits.packed, seconds=limits.seconds)
        await run_in_threadpool(take_in, job, limits)
    except BaseException as error:
        if job:
            jobs.remove(job)
        if isinstance(error, ClientDisconnect):
            raise Refusal(400, "the client went away") from error
        if isinstance(error, Refusal) and error.status != TOO_LATE:
            await drain(request)
        raise
    jobs.submit(job)
    return job


def take_in(job: Job, limits: Limits) -> None:
    """Look at a scan that has come, and unpack it if it is a zip.

    Raises:
        Refusal: it is larger than allowed, or cannot be unpacked.
    """
    check_claim(job.upload, job.suffix, limits.unpacked)
    if job.suffix == ARCHIVE:
        folder = job.folder / "unpacked"
        folder.mkdir()
        job.source = folder / job.name
        unpack(job.upload, job.source, limits.unpacked)
        job.upload.unlink()
