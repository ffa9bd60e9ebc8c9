"""A table as every format shows it: texts that are ready, and the values by which they are sorted."""

from dataclasses import dataclass

from jcl.benchmark.paper import PaperCell

__all__ = ["NOTHING", "Cell", "Head", "Note", "Row", "Table"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell.

    Attributes:
        text: what it says; numbers are right-aligned, words left.
        value: what it is sorted by; None is last.
        words: a text, sorted as such.
        deviation: the standard deviation that stands after `text`.
        paper: what the paper publishes in its place.
        sub: a small second line.
        best: in bold.
        mark: letter of the note that it refers to.
        tip: what a page says when it is pointed at; nothing that is said nowhere else.
        tone: class of the style sheet: `up`, `down`, `partial`, `failed`, …
        state: there is no number, and `text` says why.
    """

    text: str
    value: float | None = None
    words: bool = False
    deviation: str = ""
    paper: PaperCell | None = None
    sub: str = ""
    best: bool = False
    mark: str = ""
    tip: str = ""
    tone: str = ""
    state: bool = False


@dataclass(frozen=True)
class Head:
    """Head of a column, and how it is sorted first; `tip` says more.

    `words`: its cells are texts. `spread`: they have a deviation, or room for one. `paper`: the published column whose
    numbers stand beside, "" if there is none.
    """

    text: str
    first: str = "ascending"
    tip: str = ""
    words: bool = False
    spread: bool = False
    paper: str = ""


@dataclass(frozen=True)
class Row:
    """A row: its head, and whether it is the method that the toolkit is about."""

    name: str
    cells: tuple[Cell, ...]
    ours: bool = False


@dataclass(frozen=True)
class Note:
    """What a mark means."""

    mark: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table; `title` is the strong part of its caption, `heads` has that of the rows' names too.

    `marked`: whether any cell has a mark; then every cell keeps room for one.
    """

    title: str
    caption: str = ""
    heads: tuple[Head, ...]
    rows: tuple[Row, ...]
    marked: bool = False


NOTHING = Cell(text="–", state=True)
"""A number that there is none of."""
