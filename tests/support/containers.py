"""A Dockerfile's instructions, and what a .dockerignore leaves out of the folder that is sent to the builder."""

import re
from fnmatch import fnmatch
from pathlib import Path

INSTRUCTIONS = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "FROM", "RUN", "USER", "WORKDIR"}
"""Those that are used here."""


def instructions(path: Path) -> list[tuple[str, str]]:
    """Name and text of each instruction; lines that go on are joined, comments left out.

    Raises:
        ValueError: an instruction that is not among `INSTRUCTIONS`.
    """
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not re.match(r"\s*#", line)]
    found: list[tuple[str, str]] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, text = line.strip().partition(" ")
            if name not in INSTRUCTIONS:
                raise ValueError(f"{path}: {name} is no instruction that is known here")
            found.append((name, text.strip()))
    return found


def copied(found: list[tuple[str, str]]) -> list[str]:
    """What is copied out of the folder, not out of an earlier stage."""
    words = [text.split() for name, text in found if name == "COPY" and not text.startswith("--from")]
    return [source for each in words for source in each[:-1]]


def is_sent(ignored: Path, name: str) -> bool:
    """Whether a file or folder at the top reaches the builder: of the patterns that fit, the last decides."""
    sent = True
    for line in ignored.read_text(encoding="utf-8").splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#") and fnmatch(name, pattern.removeprefix("!")):
            sent = pattern.startswith("!")
    return sent
