"""The page: its files come with jcl, and it asks for nothing else than them and this server."""

from importlib import resources

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from jcl.serve.guard import Access
from jcl.serve.refusal import Refusal

__all__ = ["make_pages"]

KINDS = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}


def make_pages(access: Access) -> APIRouter:
    """The routes of the page and of its files."""
    router = APIRouter(include_in_schema=False)
    folder = resources.files("jcl.serve") / "page"
    files = {each.name: each.read_bytes() for each in folder.iterdir() if each.name.endswith(tuple(KINDS))}
    page = (folder / "index.html").read_text(encoding="utf-8").replace("{{ csrf }}", access.csrf)

    @router.get("/")
    async def index() -> HTMLResponse:
        return HTMLResponse(page)

    @router.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in files:
            raise Refusal(404, "no such file")
        return Response(files[name], media_type=KINDS[name[name.rindex(".") :]])

    @router.get("/favicon.ico")
    async def icon() -> Response:
        return Response(status_code=204)

    return router
