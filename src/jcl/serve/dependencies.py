"""What routes ask for by the type of an argument: the server's state, and the job that an address names."""

from typing import Annotated

from fastapi import Depends, Request

from jcl.serve.jobs import Job
from jcl.serve.service import Service

__all__ = ["TheJob", "TheService"]


async def _service(request: Request) -> Service:
    return request.app.state.service


TheService = Annotated[Service, Depends(_service)]


async def _job(service: TheService, number: str) -> Job:
    """The job that the path names `number`; a `Refusal` where there is none."""
    return service.jobs.get(number)


TheJob = Annotated[Job, Depends(_job)]
