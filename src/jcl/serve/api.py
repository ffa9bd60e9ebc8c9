"""The routes under /api: send a scan, ask how far it is, fetch its result, correct it, keep it."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from jcl.data.sources import result_suffix, stem
from jcl.serve.body import read_object, receive_file
from jcl.serve.correction import check_classes, corrected_path, write_corrected
from jcl.serve.dependencies import TheJob, TheService
from jcl.serve.jobs import Job, State
from jcl.serve.keeping import keep_case
from jcl.serve.refusal import Refusal
from jcl.serve.segmenting import Segmented
from jcl.serve.service import Service
from jcl.serve.uploads import receive_scan

__all__ = ["router"]

BINARY = "application/octet-stream"
BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {BINARY: {"schema": {"format": "binary"}}}}}


class StructureModel(BaseModel):
    """A structure that the run segments."""

    name: str
    value: int = Field(description="in label files; a class of a voxel is its place in this list, from 1")


class RunModel(BaseModel):
    """What this server does."""

    run: str
    classes: list[StructureModel]
    keeps: bool = Field(description="whether corrected scans can be kept")
    max_bytes: int = Field(description="of an upload")


class ViewModel(BaseModel):
    """How a scan is shown: value = offset + scale * stored."""

    shape: tuple[int, int, int] = Field(description="slices, rows, columns")
    spacing: tuple[float, float, float] = Field(description="of these, in mm")
    axes: tuple[str, str, str] = Field(description="towards what these run: L, R, P, A, S or I")
    offset: float
    scale: float
    window: tuple[float, float]


class JobModel(BaseModel):
    """A scan that was sent."""

    id: str
    name: str
    state: State
    position: int = Field(description="scans that come first")
    share: float = Field(description="of the work that is done, 0 to 1")
    error: str = Field(description="why it failed, in one line")
    notes: list[str]
    file: str = Field(description="name of the result")
    view: ViewModel | None


class KeptModel(BaseModel):
    """A case that was kept."""

    name: str
    image: str
    label: str
    command: str = Field(description="what makes a store of all kept cases")


class ErrorModel(BaseModel):
    """What went wrong, in one line."""

    error: str


router = APIRouter(
    prefix="/api", responses={status: {"model": ErrorModel} for status in (400, 401, 403, 404, 408, 409, 413, 415, 503)}
)


@router.get("/run")
async def run(service: TheService) -> RunModel:
    """What this server segments."""
    pairs = zip(service.classes.names, service.classes.values, strict=True)
    classes = [StructureModel(name=name, value=value) for name, value in pairs]
    keeps, most = service.keep is not None, int(service.limits.packed)
    return RunModel(run=service.title, classes=classes, keeps=keeps, max_bytes=most)


@router.post("/jobs", status_code=202, openapi_extra=BODY)
async def send(
    service: TheService,
    request: Request,
    name: Annotated[str, Query(max_length=1000, description="of the file, with its suffix")],
    hold: Annotated[bool, Query(description="whether it stays when its result was fetched")] = False,
) -> JobModel:
    """Send a scan, or a zip of a DICOM series, as the body."""
    return describe(service, await receive_scan(request, service.jobs, service.limits, name, hold=hold))


@router.get("/jobs/{number}")
async def status(service: TheService, job: TheJob) -> JobModel:
    """How far a scan is."""
    return describe(service, job)


@router.delete("/jobs/{number}", status_code=204)
async def remove(service: TheService, job: TheJob) -> None:
    """Cancel it, or remove it with all that belongs to it."""
    service.jobs.remove(job)


@router.get("/jobs/{number}/result", response_class=FileResponse)
async def result(service: TheService, job: TheJob) -> FileResponse:
    """The label map, as `jcl predict` writes it. Unless it is held, the scan is removed when this was sent."""
    path = done(job).result
    ending = None if job.hold else BackgroundTask(run_in_threadpool, service.jobs.remove, job)
    return FileResponse(path, media_type=BINARY, filename=path.name, background=ending)


@router.get("/jobs/{number}/image", response_class=FileResponse)
async def image(job: TheJob) -> FileResponse:
    """The voxels of one that is held, in 16 bits without a sign, slice by slice."""
    if done(job).view is None:
        raise Refusal(409, "only the image of a scan that is held can be shown; send it with hold=true")
    return FileResponse(job.task.image, media_type=BINARY)


@router.get("/jobs/{number}/classes", response_class=FileResponse)
async def classes(job: TheJob) -> FileResponse:
    """The class of each voxel, a byte each, in the order of the image."""
    done(job)
    return FileResponse(job.task.classes, media_type=BINARY)


@router.put("/jobs/{number}/classes", status_code=204, openapi_extra=BODY)
async def correct(service: TheService, job: TheJob, request: Request) -> None:
    """Send the class of each voxel as somebody has corrected them."""
    segmented = done(job)
    new = corrected_path(job).with_suffix(f".{id(request)}")
    try:
        voxels = job.task.classes.stat().st_size
        await receive_file(request, new, most=voxels, seconds=service.limits.seconds)
        await run_in_threadpool(check_classes, new, segmented, service.classes)
        new.replace(corrected_path(job))
        job.corrected = True
    finally:
        new.unlink(missing_ok=True)


@router.get("/jobs/{number}/correction", response_class=FileResponse)
async def correction(service: TheService, job: TheJob) -> FileResponse:
    """The corrected label map, on the scan's own grid and in its format."""
    segmented = done(job)
    if not job.corrected:
        raise Refusal(409, "nothing was corrected; fetch the result")
    folder = job.folder / "written"
    folder.mkdir(exist_ok=True)
    name = f"{stem(segmented.result)}_corrected{result_suffix(segmented.images[0])}"
    await run_in_threadpool(write_corrected, folder / name, job, segmented, service.classes)
    return FileResponse(folder / name, media_type=BINARY, filename=name)


@router.post("/jobs/{number}/keep", status_code=201)
async def keep(service: TheService, job: TheJob, request: Request) -> KeptModel:
    """Keep image and label as a case; the body is {"name": ...}."""
    segmented = done(job)
    name = (await read_object(request)).get("name", job.name)
    if not isinstance(name, str):
        raise Refusal(400, "name has to be a text")
    kept = await run_in_threadpool(keep_case, service, job, segmented, name)
    return KeptModel(name=kept.name, image=str(kept.image), label=str(kept.label), command=kept.command)


def done(job: Job) -> Segmented:
    """What became of a scan.

    Raises:
        Refusal: it is not segmented, or never will be.
    """
    if job.result is not None and job.state is State.DONE:
        return job.result
    if job.state is State.FAILED:
        raise Refusal(422, job.error)
    raise Refusal(409, f"{job.name} is not segmented yet ({job.state})")


def describe(service: Service, job: Job) -> JobModel:
    """What is said of a job."""
    result = job.result
    view = ViewModel(**vars(result.view)) if result and result.view else None
    return JobModel(
        id=job.id, name=job.name, state=job.state, position=service.jobs.position(job), share=job.share,
        error=job.error, notes=list(result.notes) if result else [], file=result.result.name if result else "",
        view=view,
    )  # fmt: skip
