"""The application: pages and routes behind the guard, and what is said when something goes wrong."""

import re
import sys
import traceback

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from jcl import __version__
from jcl.errors import JclError
from jcl.files import WriteError
from jcl.serve import api, monai
from jcl.serve.guard import Access, Guard
from jcl.serve.pages import make_pages
from jcl.serve.refusal import Refusal
from jcl.serve.service import Service
from jcl.text import printable

__all__ = ["make_app"]


def make_app(service: Service, access: Access) -> Guard:
    """The whole application."""
    app = FastAPI(title="jcl serve", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.service, app.state.volumes = service, monai.Volumes()
    for router in (make_pages(access), api.router, monai.router):
        app.include_router(router)

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> JSONResponse:
        return JSONResponse({"error": printable(error.message)}, error.status, error.headers)

    @app.exception_handler(JclError)
    async def failed(_: Request, error: JclError) -> JSONResponse:
        own = rf"{re.escape(str(service.room))}[/\\]job-[^/\\]+[/\\](upload[/\\])?"  # which is nobody's business
        line = printable(re.sub(own, "", str(error)))
        return JSONResponse({"error": line}, 507 if isinstance(error, WriteError) else 422)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"error": printable(f"{first['loc'][-1]}: {first['msg']}")}, 422)

    @app.exception_handler(HTTPException)
    async def unknown(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": printable(str(error.detail))}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def fault(_: Request, error: Exception) -> JSONResponse:
        traceback.print_exception(error, file=sys.stderr)
        return JSONResponse({"error": "a fault of the server, which says more where it runs"}, 500)

    return Guard(app, access)
