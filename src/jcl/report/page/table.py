"""What a table on the page is made of: texts that are ready, and the values by which they are sorted."""

from dataclasses import dataclass

__all__ = ["NOTHING", "Cell", "Head", "Note", "Row", "Table"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell.

    Attributes:
        text: what it says; figures are right-aligned, words left.
        value: what it is sorted by; None is last.
        words: a text, sorted as such.
        deviation: small, after a plus-minus sign.
        theirs: the paper's figure, small beside.
        sub: a small second line.
        best: in bold.
        mark: letter of the note that it refers to.
        tip: what is said when it is pointed at.
        tone: class of the style sheet: `up`, `down`, `partial`, `failed`, …
        state: there is no figure, and `text` says why.
    """

    text: str
    value: float | None = None
    words: bool = False
    deviation: str = ""
    theirs: str = ""
    sub: str = ""
    best: bool = False
    mark: str = ""
    tip: str = ""
    tone: str = ""
    state: bool = False


@dataclass(frozen=True)
class Head:
    """Head of a column, and how it is sorted first; `tip` says more.

    `words`: its cells are texts. `beside`: they have a deviation, and the paper's figure beside them.
    """

    text: str
    first: str = "ascending"
    tip: str = ""
    words: bool = False
    beside: bool = False


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
"""A figure that there is none of."""
