"""A report as one HTML page: template, style, scripts and data in one file."""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from jcl.report.page.content import Content
from jcl.report.page.how_to_read import HOW_TO_READ
from jcl.text import printable

__all__ = ["GENERATOR", "render"]

GENERATOR = "jcl report"
"""What a page says of itself, by which a later report knows that it may replace it."""

TEMPLATES = ("page.html", "tables.html", "figures.html")
SCRIPTS = ("page.js", "sort.js", "viewer.js")


def render(content: Content) -> str:
    """The page as HTML, with all that it shows: it asks for nothing from elsewhere, and says so to the browser.

    Every text is escaped; only charts (`jcl.report.figures.curves`) and our own style and scripts are put in as is.
    """
    script = "\n".join(_source(name) for name in SCRIPTS)
    template = _environment().get_template("page.html")
    return template.render(
        page=content,
        how_to_read=HOW_TO_READ,
        style=Markup(_source("style.css")),
        script=Markup(script),
        # only this script may run, even if a name in the data had got through as markup
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        generator=GENERATOR,
    )


def _environment() -> Environment:
    environment = Environment(
        loader=DictLoader({name: _source(name) for name in TEMPLATES}),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"png": _png, "chart": Markup}
    return environment


def _shown(value: Any) -> Any:
    """Text without control characters; what was put in as markup is ours."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _source(name: str) -> str:
    return files("jcl.report.page").joinpath(name).read_text(encoding="utf-8")


def _png(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"
