"""What a check found: one line each, which names the file and says what to do."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["ERROR", "NOTE", "Finding", "errors_of", "name_some"]

ERROR = "error"
"""Results would be wrong, or something is lost."""

NOTE = "note"
"""Nothing is broken; a person should look at it."""


@dataclass(frozen=True)
class Finding:
    """Something found by `jcl verify`.

    Attributes:
        level: `ERROR` or `NOTE`.
        kind: one word to sort by, as `damaged`.
        text: one line, the file first, then what is the matter and what to do.
        cases: names of the cases that it is about.
    """

    level: str
    kind: str
    text: str
    cases: tuple[str, ...] = ()


def errors_of(findings: Iterable[Finding]) -> list[Finding]:
    """Those that are errors."""
    return [finding for finding in findings if finding.level == ERROR]


def name_some(names: Sequence[str], most: int = 6) -> str:
    """The first few of a list, and how many there are beside."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
