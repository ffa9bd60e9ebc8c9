"""What `jcl doctor` finds wrong with a machine."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "broken", "hint"]


@dataclass(frozen=True)
class Finding:
    """Something that should be mended: `error` where jcl cannot work so, `warning` where it works less well."""

    level: Literal["error", "warning"]
    text: str


def broken(text: str) -> Finding:
    """Without this, jcl does not work."""
    return Finding("error", text)


def hint(text: str) -> Finding:
    """Jcl works, and could do better."""
    return Finding("warning", text)
