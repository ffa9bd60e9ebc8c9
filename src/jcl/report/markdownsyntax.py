"""Pieces of Markdown as GitHub shows it."""

import re
from collections.abc import Iterable, Iterator, Sequence

__all__ = ["escape", "folded", "small", "table"]


def folded(title: str, parts: Iterable[str]) -> Iterator[str]:
    """A section that opens on a click; the blank lines let GitHub read the tables in it."""
    yield f"<details><summary>{title}</summary>"
    yield from parts
    yield "</details>"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> str:
    """The first `texts` columns left, the others right; padded, so that the source reads as a table too."""
    widths = [max(3, *(len(line[k]) for line in (heads, *rows))) for k in range(len(heads))]
    rule = ["-" * width if k < texts else "-" * (width - 1) + ":" for k, width in enumerate(widths)]
    lines = [heads, rule, *rows]
    return "\n".join("| " + " | ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)) + " |" for line in lines)


def small(text: str) -> str:
    """Text in small letters, on a line of its own in a cell."""
    return f"<br><sub>{text}</sub>"


def escape(text: str) -> str:
    """Text of files and people as it is, whatever Markdown or HTML would make of it."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", text)
