"""A report's tables of scores for LaTeX, as the paper prints them: 0.5620(0.052), the best of a column bold."""

import re
from collections.abc import Iterator

from jcl.report.page.content import Content, Pane, Section
from jcl.report.page.table import Cell, Table
from jcl.text import printable

__all__ = ["latex_tables"]

HEAD = r"""
% Tables of a benchmark; \usepackage{booktabs} is needed. Mean (standard deviation over folds), n - 1.
% The best of a column is bold, among the rows with the most runs.
""".strip()

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "×": r"\(\times\)", "–": "--", "−": r"\(-\)",
}  # fmt: skip


def latex_tables(content: Content) -> str:
    r"""A `table` for each table and metric, the paper's figures as rows below ours, and what it lacks as notes."""
    tables = (_table(section, pane) for section in content.sections for pane in section.panes)
    return "\n\n".join([f"{HEAD}\n% {printable(content.title)}", *tables]) + "\n"


def _table(section: Section, pane: Pane) -> str:
    table = pane.scores
    rows = [_row([_escape(row.name), *map(_cell, row.cells)]) for row in table.rows]
    caption = f"{_escape(section.title)}. {table.title}: mean(standard deviation) over folds."
    lines = [
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{caption}{' Not complete.' if section.notes else ''}}}",
        f"  \\label{{tab:{re.sub('[^A-Za-z0-9-]', '-', section.name)}-{pane.metric}}}",
        f"  \\begin{{tabular}}{{l{'c' * (len(table.heads) - 1)}}}",
        r"    \toprule",
        f"    {_row([_escape(head.text) for head in table.heads])}",
        r"    \midrule",
        *(f"    {line}" for line in (*rows, *_paper(section, table))),
        r"    \bottomrule",
        r"  \end{tabular}",
        *(f"  \\par{{\\footnotesize\\textsuperscript{{{n.mark}}} {_escape(n.text)}}}" for n in section.notes),
        r"\end{table}",
    ]
    return "\n".join(lines)


def _cell(cell: Cell) -> str:
    text = _escape(cell.text) + (f"({cell.deviation})" if cell.deviation else "")
    text = f"\\textbf{{{text}}}" if cell.best else text
    return text + (f"\\textsuperscript{{{cell.mark}}}" if cell.mark else "")


def _paper(section: Section, table: Table) -> Iterator[str]:
    """The published rows; their columns are named where they are not ours."""
    theirs = [head.paper for head in table.heads]
    if not any(theirs):
        return
    yield r"\midrule"
    yield _row([f"\\multicolumn{{{len(theirs)}}}{{l}}{{\\emph{{{_escape(f'Published, {section.published}')}}}}}"])
    if any(head.paper not in ("", head.text) for head in table.heads):
        yield _row([*map(_escape, theirs)])
    for row in table.rows:
        if any(cell.paper for cell in row.cells):
            yield _row([_escape(row.name), *map(_published, row.cells)])


def _published(cell: Cell) -> str:
    if cell.paper is None:
        return "--"
    return f"{cell.paper.mean:.4f}" + ("" if cell.paper.deviation is None else f"({cell.paper.deviation:.2f})")


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escape(text: str) -> str:
    return "".join(SPECIAL.get(letter, letter) for letter in printable(" ".join(text.split())))
