"""The routes that 3D Slicer's MONAI Label plugin calls: connect, send a volume, get its segmentation, submit a label.

Slicer sends no header of ours, so that the token is a part of the server's address: http://127.0.0.1:8765/monai/TOKEN/.
"""

import asyncio
import secrets
import threading
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from jcl import __version__
from jcl.data.volumes import read_image, read_label
from jcl.serve.correction import corrected_path
from jcl.serve.dependencies import TheJob, TheService
from jcl.serve.jobs import Job, State
from jcl.serve.keeping import Kept, keep_case
from jcl.serve.multipart import answer_with_file, form_file, save
from jcl.serve.names import case_name, split_name
from jcl.serve.refusal import Refusal
from jcl.serve.segmenting import Segmented
from jcl.serve.service import Service
from jcl.serve.uploads import take_in

__all__ = ["Volumes", "router"]

MODEL = "jcl"
LOOK_SECONDS = 0.1
MOST_NAMES = 256


class Volumes:
    """Which job is the volume that Slicer calls so; those that are forgotten are no more."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}
        self.lock = threading.Lock()

    def add(self, name: str, job: Job) -> None:
        """From now on the volume of this name is that job's."""
        with self.lock:
            self.ids.pop(name, None)
            self.ids[name] = job.id
            for old in list(self.ids)[: -MOST_NAMES or None]:
                del self.ids[old]

    def find(self, service: Service, name: str) -> Job:
        """The job of a volume; a `Refusal` where there is none."""
        number = self.ids.get(name)
        if number is None:
            raise Refusal(404, f"no volume {name[:80]!r} here; send it first")
        return service.jobs.get(number)


async def _volumes(request: Request) -> Volumes:
    return request.app.state.volumes


TheVolumes = Annotated[Volumes, Depends(_volumes)]

router = APIRouter(prefix="/monai")


@router.get("/auth/")
async def auth() -> dict[str, Any]:
    """No other login than the address."""
    return {"enabled": False}


@router.get("/info/")
async def info(service: TheService) -> dict[str, Any]:
    """What Slicer shows when it connects."""
    labels = dict(zip(service.classes.names, service.classes.values, strict=True))
    about = f"{service.title}, by jcl serve"
    model = {"type": "segmentation", "labels": labels, "dimension": 3, "description": about, "config": {}}
    none: dict[str, Any] = {}
    return {
        "name": f"jcl: {service.title}", "description": about, "version": __version__, "labels": labels,
        "models": {MODEL: model}, "trainers": none, "strategies": none, "scoring": none, "train_stats": none,
        "datastore": none, "config": none,
    }  # fmt: skip


@router.get("/datastore/")
async def datastore(service: TheService, volumes: TheVolumes) -> dict[str, Any]:
    """The volumes that were sent, and are not forgotten."""
    known = [name for name, number in volumes.ids.items() if number in service.jobs.jobs]
    return {"name": service.title, "objects": {name: {"image": {}, "labels": {}} for name in known}}


@router.put("/datastore/")
async def send(
    service: TheService, volumes: TheVolumes, request: Request, image: Annotated[str, Query(max_length=1000)] = ""
) -> dict[str, Any]:
    """Take a volume, which is segmented right away."""
    job = await _receive(service, request, hold=True)
    name = image if image not in ("", "None") else job.name
    volumes.add(name, job)
    return {"image": name}


@router.put("/session/")
async def begin(service: TheService, request: Request) -> dict[str, Any]:
    """The same without a name."""
    job = await _receive(service, request, hold=True)
    return {"session_id": job.id, "session_info": {"name": job.name}}


@router.get("/session/{number}")
async def session(job: TheJob) -> dict[str, Any]:
    """Whether it is there still."""
    return {"name": job.name}


@router.delete("/session/{number}")
async def end(service: TheService, job: TheJob) -> dict[str, Any]:
    """Remove it with its volume."""
    service.jobs.remove(job)
    return {}


@router.post("/infer/{model}", response_class=StreamingResponse)
async def infer(
    service: TheService,
    volumes: TheVolumes,
    request: Request,
    model: str,
    image: Annotated[str, Query(max_length=1000)] = "",
    session_id: Annotated[str, Query(max_length=100)] = "",
) -> StreamingResponse:
    """The segmentation of a volume that was sent, or comes along, once it is done."""
    if model != MODEL:
        raise Refusal(404, f"no model {model[:80]!r}; there is {MODEL}")
    if session_id:
        job = service.jobs.get(session_id)
    elif request.headers.get("content-type", "").startswith("multipart/") and image not in volumes.ids:
        job = await _receive(service, request, hold=True)
        volumes.add(image or job.name, job)
    else:
        job = volumes.find(service, image)
    segmented = await _segmented(service, job)
    labels = dict(zip(service.classes.names, service.classes.values, strict=True))
    return answer_with_file(segmented.result, {"label_names": labels})


@router.put("/datastore/label")
async def submit(
    service: TheService, volumes: TheVolumes, request: Request, image: Annotated[str, Query(max_length=1000)]
) -> dict[str, Any]:
    """Keep a volume with the label that somebody drew, as the page does."""
    job = volumes.find(service, image)
    segmented = await _segmented(service, job)
    file = await form_file(request, service.limits, ("label",))
    if file is None:
        raise Refusal(400, "no label in the form")
    path = job.folder / f"label{secrets.token_hex(8)}"
    try:
        path = path.with_suffix(split_name(file.filename or "")[1])
        await save(file, path)
        await run_in_threadpool(_take_label, service, job, segmented, path)
    finally:
        await file.close()
        path.unlink(missing_ok=True)
    kept: Kept = await run_in_threadpool(keep_case, service, job, segmented, case_name(image))
    return {"image": image, "label": kept.name}


@router.get("/datastore/label", response_class=FileResponse)
async def label(service: TheService, volumes: TheVolumes, label: Annotated[str, Query(max_length=1000)]) -> Response:
    """The segmentation of a volume."""
    job = volumes.find(service, label)
    if job.result is None:
        raise Refusal(409, "not segmented yet")
    return FileResponse(job.result.result, filename=job.result.result.name)


async def _receive(service: Service, request: Request, *, hold: bool) -> Job:
    file = await form_file(request, service.limits, ("file", "files"))
    if file is None:
        raise Refusal(400, "no volume in the form")
    job = None
    try:
        stem, suffix = split_name(file.filename or "")
        job = service.jobs.open(stem, suffix, hold=hold)
        await save(file, job.upload)
        await run_in_threadpool(take_in, job, service.limits)
    except BaseException:
        if job:
            service.jobs.remove(job)
        raise
    finally:
        await file.close()
    service.jobs.submit(job)
    return job


async def _segmented(service: Service, job: Job) -> Segmented:
    """What becomes of a job, waited for as long as somebody waits for the answer."""
    while job.state not in (State.DONE, State.FAILED, State.CANCELLED):
        await asyncio.sleep(LOOK_SECONDS)
        service.jobs.get(job.id)  # it is asked for
    if job.result is None or job.state is not State.DONE:
        raise Refusal(422, job.error or f"{job.name}: cancelled")
    return job.result


def _take_label(service: Service, job: Job, segmented: Segmented, path: Path) -> None:
    """Make classes of the values of a label, which has to lie on the volume's own grid."""
    volume = read_image(segmented.images, channels=service.classes.channels, grey=service.classes.grey)
    values = read_label(path, volume)
    known = np.array([0, *service.classes.values])
    found = np.unique(values)
    if not np.isin(found, known).all():
        unknown = ", ".join(str(value) for value in found[~np.isin(found, known)][:8])
        raise Refusal(400, f"the label has the values {unknown}, which the run does not know")
    order = np.argsort(known)
    classes = order[np.searchsorted(known[order], values)].astype(np.uint8)
    corrected_path(job).write_bytes(classes.tobytes())
    job.corrected = True
