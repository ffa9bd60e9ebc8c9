"""Notes are collected, each once, and are warnings where nobody collects them."""

import warnings

import pytest

from jcl.data.notes import DataNote, note, noted


def test_notes_are_collected_once_and_in_order() -> None:
    with noted() as notes:
        for text in ("b", "a", "b"):
            note(text)
        assert notes == []
    assert notes == ["b", "a"]


def test_notes_are_kept_when_reading_fails() -> None:
    kept: list[list[str]] = []

    def fail() -> None:
        with noted() as notes:
            kept.append(notes)
            note("a")
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    assert kept == [["a"]]


def test_a_note_that_nobody_collects_is_a_warning() -> None:
    with pytest.warns(DataNote, match="^a$"):
        note("a")


def test_other_warnings_pass() -> None:
    def warn() -> None:
        with noted() as notes:
            warnings.simplefilter("always")
            warnings.warn("old", DeprecationWarning, stacklevel=1)
        assert notes == []

    with pytest.warns(DeprecationWarning, match="old"):
        warn()
