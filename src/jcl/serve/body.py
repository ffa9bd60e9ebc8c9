"""The body of a request, which comes in pieces: to a file, never larger or later than allowed."""

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from fastapi import Request
from starlette.requests import ClientDisconnect

from jcl.files import is_full
from jcl.serve.refusal import Refusal

__all__ = ["bounded", "drain", "read_object", "receive_file"]

SMALL = 1 << 16
"""Bytes of a body of settings."""

SMALL_SECONDS = 20.0

DRAIN_SECONDS = 10.0

OVER = "jcl.body_over"
"""In a request's scope: whether all of its body has come."""

Message = MutableMapping[str, Any]


async def receive_file(request: Request, path: Path, *, most: float, seconds: float) -> int:
    """Write the body to a new file; returns its bytes.

    Raises:
        Refusal: it is larger or takes longer than allowed, is empty, or the disk is full.
    """
    size = 0
    try:
        async with bounded(request, most, seconds) as body:
            with path.open("xb") as file:
                async for chunk in body.stream():
                    size += file.write(chunk)
    except OSError as error:
        raise _refusal_of(error) from error
    if not size:
        raise Refusal(400, "an empty upload; send the file as the body")
    return size


async def drain(request: Request) -> None:
    """Read what still comes and throw it away, for a while: whoever sends does not listen before it is sent."""
    if request.scope.get(OVER):
        return
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in request.stream():
                pass


async def read_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object; nothing sent is an empty one.

    Raises:
        Refusal: it is something else, or larger or later than allowed.
    """
    async with bounded(request, SMALL, SMALL_SECONDS) as body:
        content = await body.body()
    try:
        value: object = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Refusal(400, "the body has to be a JSON object")
    return cast("dict[str, Any]", value)


@asynccontextmanager
async def bounded(request: Request, most: float, seconds: float) -> AsyncGenerator[Request]:
    """The request with a body that may not be larger than `most` bytes, nor take longer than `seconds`.

    Raises:
        Refusal: it is (413), or does (408).
    """
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or (declared and len(declared) > 20):
        raise Refusal(400, "content-length is not a number")
    if int(declared) > most:
        raise _too_large(most)
    try:
        async with asyncio.timeout(seconds if math.isfinite(seconds) else None):
            yield Request(request.scope, _counted(request, most))
    except TimeoutError as error:
        raise Refusal(408, f"the upload took longer than {seconds:.0f} s", {"Connection": "close"}) from error


def _counted(request: Request, most: float) -> Callable[[], Awaitable[Message]]:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await request.receive()
        request.scope[OVER] = not message.get("more_body", False)
        seen += len(message.get("body", b""))
        if seen > most:
            raise _too_large(most)
        return message

    return counted


def _too_large(most: float) -> Refusal:
    return Refusal(413, f"larger than the {most / 1e6:g} MB that are allowed", {"Connection": "close"})


def _refusal_of(error: OSError) -> Refusal:
    reason = "the server's disk is full" if is_full(error) else "the server cannot write the upload"
    return Refusal(507, f"{reason}; try again later")
