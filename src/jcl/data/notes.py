"""Notes: what a file says in two ways that differ, and which of them was taken."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["DataNote", "note", "noted"]


class DataNote(UserWarning):
    """A file could be read in more than one way; the message names it, says how it was read, and why."""


def note(message: str) -> None:
    """Warn that a file was read in one of several ways. Commands show it as a line of its own."""
    warnings.warn(message, DataNote, stacklevel=3)


@contextmanager
def noted() -> Generator[list[str]]:
    """Collect the notes made inside, each once; the list is filled at the end. Other warnings are shown as ever."""
    notes: list[str] = []
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DataNote)
            yield notes
    finally:
        for each in caught:
            if not issubclass(each.category, DataNote):
                warnings.showwarning(each.message, each.category, each.filename, each.lineno, each.file, each.line)
            elif str(each.message) not in notes:
                notes.append(str(each.message))
