"""Text of files and people, as names are, made fit for terminals, pages and tables, which obey some of it."""

import re
import unicodedata

__all__ = ["csv_cell", "markdown_text", "printable"]

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a text must not begin with, or a spreadsheet takes it for a formula."""

TURNING = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that reverse the order in which letters are shown."""


def printable(text: str) -> str:
    """One line that any terminal, file and font can take.

    Bytes of a name that are not UTF-8, control characters, as those that begin a terminal's commands, and marks that
    reverse text become question marks.
    """
    line = " ".join(text.encode("utf-8", "replace").decode().splitlines())
    if line.isprintable() and not TURNING.intersection(line):
        return line
    return "".join("?" if unicodedata.category(letter) == "Cc" or letter in TURNING else letter for letter in line)


def csv_cell(value: str | int | float | None) -> str | int | float | None:
    """A value of a table as a spreadsheet may open it: text that would be a formula begins with an apostrophe."""
    if not isinstance(value, str):
        return value
    shown = "".join("?" if unicodedata.category(one) == "Cc" and one not in "\t\n\r" else one for one in value)
    try:
        float(shown)
    except ValueError:
        return f"'{shown}" if shown.startswith(FORMULA) else shown
    return shown


def markdown_text(text: str) -> str:
    """Text as it is, whatever Markdown or HTML would make of it."""
    text = printable(" ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", text)
