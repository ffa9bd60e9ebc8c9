"""The text headers of NRRD and MetaImage, line by line: only what every reader takes in the same way passes.

A pattern that looks for one field misses what a reader finds: another case, another separator, a carriage return as the
end of a line, a field said twice. So each line is a comment, a field or a key that is written as the format has it, or
the file is refused.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from jcl.errors import DataError

__all__ = ["LARGEST", "TextHeader", "numbers", "put", "refuse_line", "text_lines"]

LARGEST = 1 << 20
"""Bytes that a header may have."""

TextHeader = Mapping[str, str]
"""What is said of each field, by the field's name in its plain form."""


def text_lines(path: Path) -> Iterator[tuple[str, int]]:
    """The lines at the start of a file without their ends, and where in the file (bytes) the next one begins.

    Raises:
        DataError: a line has control characters, or the lines have no end.
    """
    with path.open("rb") as file:
        start = file.read(LARGEST)
    at = 0
    while (end := start.find(b"\n", at)) >= 0:
        line = start[at:end].removesuffix(b"\r").decode("latin-1")
        if any(letter < " " and letter != "\t" for letter in line):
            refuse_line(path, line)
        at = end + 1
        yield line, at
    raise DataError(f"{path}: its header has no end; not a {path.suffix} file, or a corrupt one; copy it again")


def refuse_line(path: Path, line: str) -> NoReturn:
    """Raises DataError: a line of the header is nothing that the format knows."""
    raise DataError(
        f"{path}: its header has the line {line!r:.60}, which no {path.suffix} file has; save or copy it again"
    )


def put(path: Path, fields: dict[str, str], name: str, value: str) -> None:
    """Note what a header says of a field.

    Raises:
        DataError: it has said something else of it before.
    """
    value = " ".join(value.split())
    if fields.setdefault(name, value) != value:
        raise DataError(f"{path}: its header says both {fields[name]!r:.60} and {value!r:.60} of one thing; correct it")


def numbers(path: Path, fields: TextHeader, name: str) -> tuple[float, ...]:
    """The numbers that a field has; none where the header has no such field.

    Raises:
        DataError: it has something else.
    """
    try:
        # int() and float() take 1_000, which readers do not
        values = tuple(math.nan if "_" in word else float(word) for word in fields.get(name, "").split())
    except ValueError as error:
        raise DataError(f"{path}: its header has {fields[name]!r:.60} where numbers are needed; correct it") from error
    return values
