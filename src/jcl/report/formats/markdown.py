"""A report's tables as a Markdown document, as GitHub shows it."""

from collections.abc import Iterable, Iterator, Sequence

from jcl.report.page.content import Content, Pane, Section
from jcl.report.page.how_to_read import HOW_TO_READ
from jcl.report.page.table import Cell, Head, Table
from jcl.text import markdown_text as escape

__all__ = ["markdown_document", "markdown_table"]


def markdown_document(content: Content) -> str:
    """State, notes, and each table with its comparisons, folds and classes in Dice, and its scores in other metrics."""
    parts = [f"# {escape(content.title)}", f"**{escape(content.state.headline)}**"]
    parts += [note.replace("<", "&lt;") for note in content.notes]
    parts += _titled(content.overview)
    for section in content.sections:
        parts += _section(section)
    parts += ["## Costs", *_titled(content.costs), "## Methods", markdown_table(content.methods)]
    parts += ["## How to read the tables", "\n".join(f"- {escape(text)}" for text in HOW_TO_READ)]
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """Texts left, numbers right; padded, so that the source reads as a table too."""
    lines = [[_head(head) for head in table.heads]]
    lines += [[escape(row.name), *(_cell(cell) for cell in row.cells)] for row in table.rows]
    widths = [max(3, *(len(line[k]) for line in lines)) for k in range(len(table.heads))]
    texts = [head.words or k == 0 for k, head in enumerate(table.heads)]
    rule = ["-" * width if text else "-" * (width - 1) + ":" for text, width in zip(texts, widths, strict=True)]
    lines.insert(1, rule)
    return "\n".join("| " + " | ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)) + " |" for line in lines)


def _section(section: Section) -> Iterator[str]:
    first, *others = section.panes
    yield f"## {escape(section.title)}"
    yield escape(section.about)
    yield from _titled(first.scores)
    if section.notes:
        yield "\n".join(f"- {note.mark}: {escape(note.text)}" for note in section.notes)
    yield from _comparisons(first)
    for pane in others:
        yield from _folded(pane.scores.title, [pane.scores])
    yield from _folded(f"{first.name} of each fold, and intervals over patients", first.folds)
    yield from _folded(f"{first.name} of each class", first.classes)


def _comparisons(pane: Pane) -> Iterator[str]:
    for table in pane.comparisons:
        yield from _titled(table)
    for name in pane.uncompared:
        yield f"Against {escape(name)}: there are no patients yet of whom {escape(name)} and another row have scores."


def _folded(title: str, tables: Sequence[Table]) -> Iterator[str]:
    """Tables that open on a click; the blank lines let GitHub read them."""
    if tables:
        yield f"<details><summary>{title}</summary>"
        for table in tables:
            yield from _titled(table)
        yield "</details>"


def _titled(table: Table) -> Iterable[str]:
    return f"**{escape(table.title)}**" + (f": {escape(table.caption)}" if table.caption else ""), markdown_table(table)


def _head(head: Head) -> str:
    return escape(head.text) + (_small(f"paper {escape(head.paper)}") if head.paper else "")


def _cell(cell: Cell) -> str:
    text = escape(cell.text) + (f" ± {cell.deviation}" if cell.deviation else "")
    text = f"**{text}**" if cell.best else text
    text += f" <sup>{cell.mark}</sup>" if cell.mark else ""
    if cell.paper:
        deviation = "" if cell.paper.deviation is None else f" ± {cell.paper.deviation:.2f}"
        text += _small(f"paper {cell.paper.mean:.4f}{deviation}")
    return text + (_small(escape(cell.sub)) if cell.sub else "")


def _small(text: str) -> str:
    """Small letters on a line of their own in a cell."""
    return f"<br><sub>{text}</sub>"
