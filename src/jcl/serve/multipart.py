"""Forms with files, as MONAI Label's client sends them and wants them back."""

import json
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException

from jcl.serve.body import bounded
from jcl.serve.refusal import Refusal
from jcl.serve.uploads import Limits

__all__ = ["answer_with_file", "form_file", "save"]

MOST_PARTS = 5
CHUNK = 1 << 20


async def form_file(request: Request, limits: Limits, names: tuple[str, ...]) -> UploadFile | None:
    """The file of a form under the first of these names, to be closed by the caller; what is large lies on the disk.

    Raises:
        Refusal: it is no form, or larger or later than allowed.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return None
    async with bounded(request, limits.packed, limits.seconds) as body:
        try:
            form = await body.form(max_files=MOST_PARTS, max_fields=MOST_PARTS)
        except (MultiPartException, ValueError) as error:
            raise Refusal(400, "not a form that can be read") from error
    files = {name: each for name, each in form.multi_items() if isinstance(each, UploadFile)}
    chosen = next((files[name] for name in names if name in files), None)
    for _, each in form.multi_items():
        if isinstance(each, UploadFile) and each is not chosen:
            await each.close()
    return chosen


async def save(file: UploadFile, path: Path) -> None:
    """Write a file of a form."""
    with path.open("xb") as out:
        await run_in_threadpool(shutil.copyfileobj, file.file, out, CHUNK)


def answer_with_file(path: Path, params: dict[str, Any]) -> StreamingResponse:
    """A form with a JSON under `params`, and a file."""
    mark = secrets.token_hex(16)
    head = (
        f'--{mark}\r\nContent-Disposition: form-data; name="params"\r\nContent-Type: application/json\r\n\r\n'
        f"{json.dumps(params)}\r\n--{mark}\r\n"
        f'Content-Disposition: form-data; name="file"; filename="label{ending(path)}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    tail = f"\r\n--{mark}--\r\n".encode()

    def parts() -> Iterator[bytes]:
        yield head
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
        yield tail

    length = len(head) + path.stat().st_size + len(tail)
    return StreamingResponse(
        parts(), media_type=f"multipart/form-data; boundary={mark}", headers={"Content-Length": str(length)}
    )


def ending(path: Path) -> str:
    """The suffix of a result, in letters that need no quotes."""
    return "".join(path.suffixes[-2:]) if path.name.endswith(".nii.gz") else path.suffix
